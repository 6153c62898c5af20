"""The restored server's log: what it said of itself while it recovered, and since."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pgdrill.checks.base import Context, Outcome, check, not_asked

SHOWN = 10
SHOWN_CHARACTERS = 300
LONGEST = 10_000  # characters of a line that are read
# A line of the server's own (log_line_prefix '%m [%p] '), not of the tool that fetches WAL.
LINE = re.compile(r"^[\d-]{10} [\d:.]+ \w+ \[\d+\] (LOG|WARNING|ERROR|FATAL|PANIC):  (.*)$")
# Lines of any level on data that could not be read, or was read and is not right.
DAMAGE = re.compile(
    r"invalid page|could not read|page verification failed|checksum"
    r" (failure|error|mismatch)|incorrect checksum|"
    r"missing contrecord|unexpected (pageaddr|zero page)|could not (open|access) file|could not"
    r" (find|locate) .*(record|segment)|"
    r"terminated by signal|terminated abnormally|reinitializing",
    re.IGNORECASE,
)
# FATAL may also be the end of one connection, which came too early, was sent away, or asked for
# something that does not exist.
HARMLESS = re.compile(
    r"the database system is (starting up|shutting down|not (yet )?accepting connections|in"
    r" recovery mode)|"
    r"terminating connection due to (administrator command|idle|unexpected postmaster exit)|"
    r"(role|database) \".*\" (does not exist|is not (permitted to log in|currently accepting"
    r" connections))|permission denied to set parameter|canceling statement due to"
)


@check(
    "server-log",
    "recovery",
    passing=(
        "the restored server's log has no FATAL, no PANIC, no crash, and no line on data that could"
        " not be read"
    ),
    hint=(
        "the line names the file or record: compare it with production (`pg_amcheck`,"
        " `pg_checksums`); take a base backup now"
    ),
    example='ERROR: invalid page in block 7 of relation "base/16384/16999", wanted no such line',
)
def server_log(context: Context) -> Iterator[Outcome]:
    """Yield one answer for each alarming line; a repeated line is told once."""
    if context.log_file is None:
        yield not_asked("server", "not restored by pgdrill: its log is not at hand")
        return
    found = (
        alarming(context.log_file, context.stuck.restarts) if context.log_file.is_file() else None
    )
    if found is None:
        yield Outcome(
            "fail", context.log_file.name, "empty or missing", "the restored server's log"
        )
        return
    for line, times in list(found.items())[:SHOWN]:
        yield Outcome("fail", line[:SHOWN_CHARACTERS], times, "0 such lines")
    if len(found) > SHOWN:
        yield Outcome("fail", context.log_file.name, len(found) - SHOWN, "0", "more such lines")
    if not found:
        yield Outcome("pass", context.log_file.name, "clean", "no FATAL, no PANIC, no damage")


def alarming(log_file: Path, restarts: int = 0) -> dict[str, int] | None:
    """Return the lines that a good restore does not write, each with how often it stands there.

    None where the server wrote no line. So many ``restarts`` were pgdrill's own doing, and not
    damage's.
    """
    found: dict[str, int] = {}
    any_line = False
    for line in lines(log_file):
        if match := LINE.match(line):
            any_line = True
            level, text = match.groups()
            if restarts and level == "LOG" and text.endswith("reinitializing"):
                restarts -= 1
            elif (level in ("FATAL", "PANIC") and not HARMLESS.search(text)) or DAMAGE.search(text):
                found[f"{level}: {text}"] = found.get(f"{level}: {text}", 0) + 1
    return found if any_line else None


def lines(log_file: Path) -> Iterator[str]:
    """Yield the beginning of each line of a log, and keep no more of it in memory.

    What follows in a long line is not taken for another line.
    """
    with log_file.open(errors="replace", newline="\n") as file:
        begins = True
        while piece := file.readline(LONGEST):
            if begins:
                yield piece.rstrip("\n")
            begins = piece.endswith("\n")
