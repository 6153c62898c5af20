"""The restored server's log: what it said of itself while it recovered, and since."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pgdrill.checks.base import Context, Outcome, check, not_asked

SHOWN = 10
SHOWN_CHARACTERS = 300
# A line of the server's own (log_line_prefix '%m [%p] '), not of the tool that fetches WAL.
LINE = re.compile(r"^[\d-]{10} [\d:.]+ \w+ \[\d+\] (LOG|WARNING|ERROR|FATAL|PANIC):  (.*)$", re.MULTILINE)
# Whatever the level: data that could not be read, or was read and is not right.
DAMAGE = re.compile(
    r"invalid page|could not read|page verification failed|checksum (failure|error|mismatch)|incorrect checksum|"
    r"missing contrecord|unexpected (pageaddr|zero page)|could not (open|access) file|could not (find|locate) .*(record|segment)|"
    r"terminated by signal|terminated abnormally|reinitializing",
    re.IGNORECASE,
)
# FATAL is the end of one connection, too: one that came too early, was sent away, or named nothing that exists.
HARMLESS = re.compile(
    r"the database system is (starting up|shutting down|not (yet )?accepting connections|in recovery mode)|"
    r"terminating connection due to (administrator command|idle|unexpected postmaster exit)|"
    r"(role|database) \".*\" (does not exist|is not (permitted to log in|currently accepting connections))|permission denied to set parameter|canceling statement due to",
)


@check(
    "server-log", "recovery",
    passing="the restored server's log has no FATAL, no PANIC, no crash, and no line on data that could not be read",
    mend="the line names the file or record: compare it with production (`pg_amcheck`, `pg_checksums`); take a base backup now",
    example='ERROR: invalid page in block 7 of relation "base/16384/16999", wanted no such line',
)  # fmt: skip
def server_log(context: Context) -> Iterator[Outcome]:
    """One answer for each line of that kind, repeated ones once."""
    if context.log_file is None:
        yield not_asked("server", "not restored by pgdrill: its log is not at hand")
        return
    if not context.log_file.is_file() or not LINE.search(context.log_file.read_text(errors="replace")):
        yield Outcome("fail", context.log_file.name, "empty or missing", "the restored server's log")
        return
    found = alarming(context.log_file)
    for line, times in list(found.items())[:SHOWN]:
        yield Outcome("fail", line[:SHOWN_CHARACTERS], times, "0 such lines")
    if len(found) > SHOWN:
        yield Outcome("fail", context.log_file.name, len(found) - SHOWN, "0", "more such lines")
    if not found:
        yield Outcome("pass", context.log_file.name, "clean", "no FATAL, no PANIC, no damage")


def alarming(log_file: Path) -> dict[str, int]:
    """The lines that a good restore does not write, each with how often it stands there."""
    found: dict[str, int] = {}
    for level, text in LINE.findall(log_file.read_text(errors="replace")):
        loud = level in ("FATAL", "PANIC") and not HARMLESS.search(text)
        if loud or DAMAGE.search(text):
            found[f"{level}: {text}"] = found.get(f"{level}: {text}", 0) + 1
    return found
