# Sourced by restore_command, which sets: f (%f), p (%p) and spool (the folder), and goes on with the tool's own
# command where this file returns. No process but mv is started for a segment that is there already.
#
# Exit codes as PostgreSQL takes them: 0 delivered, 255 stop, and 1 for "no such file", which ends recovery: that is
# the tool's own word alone, asked just before by the prefetcher, or in what comes after this file.
# A segment is in the spool under its name only when it is whole and checked.

pgdrill_take() {
    [ -f "$spool/$f" ] || return 1
    mv -f -- "$spool/$f" "$p" || exit 255
    # Opened for reading and writing: this waits for nobody, not even where the prefetcher is gone.
    echo "took $f" 1<>"$spool/asked"
    exit 0
}

pgdrill_ask() {
    # As long as the prefetcher lives it holds the other end; if it dies, reading ends.
    pgdrill_take
    echo "want $f" 1<>"$spool/asked"
    while read -r name answer <&4; do
        [ "$name" = "$f" ] || continue
        case $answer in
        here)
            pgdrill_take
            echo "want $f" 1<>"$spool/asked"
            ;;
        stop)
            echo "pgdrill: $f cannot be delivered; the drill's report says why" >&2
            exit 255
            ;;
        absent) exit 1 ;;
        *) return 0 ;;
        esac
    done
    echo "pgdrill: nobody fetches ahead any more; $f comes from the tool" >&2
}

pgdrill_take
if [ -p "$spool/asked" ] && [ -p "$spool/answers" ]; then
    # Opened for both first, so that opening for reading does not wait for a writer; closed again, so that it ends.
    pgdrill_ask 3<>"$spool/answers" 4<"$spool/answers" 3>&-
fi
