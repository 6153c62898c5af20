#!/bin/sh
# Runs pgBackRest for pgdrill and for PostgreSQL, without any file of settings.
#
#   pgbackrest.sh PROGRAM COMMAND [ARGUMENT...]
#
# The bucket's keys have one name whatever the tool: pgBackRest, which does not know AWS_…, gets them here. Without
# keys it asks for the machine's role.
# A stanza has to be there before the first segment or backup. They make it, from pg_control alone. stanza-create
# refuses where files of another cluster, or of a lost stanza, lie.

program=$1
shift

if [ "${PGBACKREST_REPO1_TYPE-}" = s3 ] && [ -z "${PGBACKREST_REPO1_S3_KEY-}" ]; then
    if [ -n "${AWS_ACCESS_KEY_ID-}" ]; then
        export PGBACKREST_REPO1_S3_KEY="$AWS_ACCESS_KEY_ID" PGBACKREST_REPO1_S3_KEY_SECRET="$AWS_SECRET_ACCESS_KEY"
        [ -z "${AWS_SESSION_TOKEN-}" ] || export PGBACKREST_REPO1_S3_TOKEN="$AWS_SESSION_TOKEN"
    else
        export PGBACKREST_REPO1_S3_KEY_TYPE="${PGBACKREST_REPO1_S3_KEY_TYPE-auto}"
    fi
fi

make_stanza() {
    "$program" --no-config --lock-path="${TMPDIR:-/tmp}/pgbackrest-$(id -u)" --no-online stanza-create
}

case $1 in
backup)
    make_stanza || exit
    ;;
archive-push) # for each segment: only where it is not there
    said=$("$program" --no-config "$@" 2>&1) && exit 0
    code=$?
    case $said in
    *"unable to load info file"*archive.info*) make_stanza || exit ;;
    *)
        printf '%s\n' "$said" >&2
        exit "$code"
        ;;
    esac
    ;;
esac
exec "$program" --no-config "$@"
