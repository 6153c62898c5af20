# Sourced by restore_command, which sets: f (%f), p (%p) and spool (the folder). It knows no tool and no key: what recovery
# wants is in the spool, or is fetched by a process outside, which is asked. No process but mv is started for a segment.
#
# Exit codes as PostgreSQL takes them: 0 delivered, 255 stop, and 1 for "no such file", which ends recovery: that is the
# tool's own word alone. A file is in the spool under its name only when it is whole and checked.

pgdrill_take() {
    [ -f "$spool/$f" ] || return 0
    mv -f -- "$spool/$f" "$p" || exit 255
    # Opened for reading and writing: this waits for nobody, not even where nobody fetches any more.
    echo "took $f" 1<>"$spool/asked"
    exit 0
}

pgdrill_ask() {
    # As long as the process that fetches lives it holds the other end; if it dies, reading ends.
    pgdrill_take
    echo "want $f" 1<>"$spool/asked"
    while read -r name answer <&4; do
        [ "$name" = "$f" ] || continue
        case $answer in
        here)
            pgdrill_take
            echo "want $f" 1<>"$spool/asked"
            ;;
        absent)
            echo "pgdrill: there is no $f, by the tool's word" >&2
            exit 1
            ;;
        *)
            echo "pgdrill: $f cannot be delivered; the drill's report says why" >&2
            exit 255
            ;;
        esac
    done
}

pgdrill_take
if [ -p "$spool/asked" ] && [ -p "$spool/answers" ]; then
    # Opened for both first, so that opening for reading does not wait for a writer; closed again, so that it ends.
    pgdrill_ask 3<>"$spool/answers" 4<"$spool/answers" 3>&-
fi
echo "pgdrill: nobody fetches WAL any more, so $f cannot be had; the drill's report says why" >&2
exit 255
