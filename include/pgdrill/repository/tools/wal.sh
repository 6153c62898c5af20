#!/bin/sh
# Between PostgreSQL and a backup tool: the only process pgdrill adds to archiving and restoring a WAL segment.
#
#   wal.sh fetch ABSENT_CODE SEGMENT_BYTES NAME DESTINATION TOOL [ARGUMENT...]    for restore_command
#   wal.sh push  SEGMENT_BYTES NAME SOURCE TOOL [ARGUMENT...]                     for archive_command
#
# PostgreSQL takes exit code 1 of a restore_command for "no such file" and ends recovery there, promoting a server
# that lacks data. So only the tool's own code for "absent" becomes 1; every other failure becomes 255, which stops
# the server. Tools deliver empty objects as success (wal-g 3.0.8) and leave torn files behind: both are undone here.

usage() {
    echo "pgdrill: wal.sh knows fetch and push with their arguments, not '$*'" >&2
    exit 255 # 2, which a shell would exit with, lets recovery end
}

[ $# -ge 5 ] || usage "$@"
mode=$1
shift

whole() { # NAME FILE BYTES: a segment has exactly BYTES; history, backup and partial files are just not empty
    size=$(wc -c <"$2") || return 1
    case $1 in
    *.*) [ "$size" -gt 0 ] ;;
    *) [ "$size" -eq "$3" ] ;;
    esac
}

case $mode in
fetch)
    [ $# -ge 5 ] || usage "$mode" "$@"
    absent=$1 bytes=$2 name=$3 destination=$4
    shift 4
    rm -f -- "$destination" # a killed fetch leaves a file that makes the next one fail
    "$@"
    code=$?
    if [ "$code" -eq 0 ]; then
        whole "$name" "$destination" "$bytes" && exit 0
        echo "pgdrill: $name came from the repository with the wrong size; expected $bytes bytes" >&2
    fi
    rm -f -- "$destination"
    [ "$code" -eq "$absent" ] && exit 1
    exit 255
    ;;
push)
    bytes=$1 name=$2 source=$3
    shift 3
    if ! whole "$name" "$source" "$bytes"; then
        echo "pgdrill: refusing to archive $name: not $bytes bytes" >&2
        exit 1
    fi
    "$@" || exit 1
    ;;
*)
    usage "$mode" "$@"
    ;;
esac
