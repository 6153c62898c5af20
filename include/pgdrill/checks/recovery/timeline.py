"""Timelines: replay followed production's, and one promotion began one new one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.postgres.wal import TimelineSwitch, format_lsn, parse_history, parse_lsn
from pgdrill.text import count

PROMOTED = re.compile(r"LOG:  selected new timeline ID: (\d+)")
COMPLETE = "LOG:  archive recovery complete"
HISTORIES = "SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{8}\\.history$'"
PAGE_BYTES = 8192  # replay may end before a page's header, and the switch be noted behind it


@check(
    "timeline",
    "recovery",
    passing=(
        "replay followed the timeline that production is on; the new one is higher than any whose"
        " history is archived"
    ),
    hint=(
        "look for a second server that archives into this repository, and for .history files that"
        " were deleted from it; take a base backup on production's timeline"
    ),
    example="followed: 2, wanted 3 (production's)",
)
def timeline(context: Context) -> Iterator[Outcome]:
    """Compare the timeline that replay followed with production's.

    The restored server's own history file says which it was, not what it was told.
    """
    restored = context.report.restored if context.report else None
    if restored is None or not restored.recovered_timeline:
        yield not_asked("server", "not restored by pgdrill: what it followed is unknown")
        return
    number, history = _current(context)
    if not history:
        yield Outcome(
            "fail",
            "history",
            f"timeline {number} without a history",
            "one that names its ancestors",
        )
        return
    wanted, whose = restored.recovered_timeline, "the repository's newest"
    if context.production:
        wanted, whose = context.production.timeline, "production's"
    followed = history[-1].timeline
    yield Outcome(
        "pass" if followed == wanted else "fail", "followed", followed, f"= {wanted}", whose
    )
    newest = max(restored.newest_archived_timeline, wanted)
    yield Outcome(
        "pass" if number == newest + 1 else "fail",
        "new",
        number,
        f"= {newest + 1}",
        "one higher than any archived",
    )


@check(
    "promoted-once",
    "recovery",
    passing="the restored server was promoted exactly once, where replay had stopped",
    hint="somebody else started or promoted the restored server: its log says when; restore again",
    example="server's log: 2 promotions, wanted 1",
)
def promoted_once(context: Context) -> Iterator[Outcome]:
    """Check that the log, the history file and the present timeline tell of the same promotion."""
    report = context.report
    if report is None or report.restored is None or context.log_file is None:
        yield not_asked("server", "not restored by pgdrill: its log is not at hand")
        return
    text = context.log_file.read_text(errors="replace") if context.log_file.is_file() else ""
    begun = [int(number) for number in PROMOTED.findall(text)]
    number, history = _current(context)
    once = len(begun) == 1 and text.count(COMPLETE) == 1
    yield Outcome(
        "pass" if once else "fail", "server's log", count(len(begun), "promotion"), "1 promotion"
    )
    if (begun and begun[-1] != number) or number != report.restored.timeline:
        yield Outcome(
            "fail",
            "server",
            f"timeline {number}",
            f"timeline {(*begun, report.restored.timeline)[-1]}",
            "the log and the restore say so",
        )
    switch = history[-1].switch_lsn if history else 0
    here = abs(switch - parse_lsn(report.restored.reached_lsn)) <= PAGE_BYTES
    yield Outcome(
        "pass" if here else "fail",
        "history",
        format_lsn(switch),
        f"where replay ended, {report.restored.reached_lsn}",
    )


@check(
    "stray-timeline",
    "recovery",
    passing=(
        "production's is the newest archived timeline: a recovery that is not told which to follow"
        " takes the highest"
    ),
    hint=(
        "set archive_mode = off on the copy that wrote it, then delete its objects; if that copy is"
        " production by now, correct server.dsn"
    ),
    example=(
        "00000002.history: 2 segments, from 000000020000000000000005 on, wanted no timeline but"
        " production's (1) and its ancestors"
    ),
)
def stray_timeline(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each other end of archived WAL.

    Without production's word none is called a stray.
    """
    report = context.report
    if report is None or report.branches is None or report.restored is None:
        yield not_asked(
            "archive", "not restored by pgdrill, or by an older one: the archive was not looked at"
        )
        return
    here = report.restored.recovered_timeline
    wanted = f"no timeline but production's ({here}) and its ancestors"
    for one in report.branches:
        left = f", left at {one.left_at}" if one.left_at else ""
        shown = (
            f"{one.segments}"
            f" segments{f', from {one.first_segment} on' if one.first_segment else ''}{left}"
        )
        if one.stray:
            why = (
                "a recovery to latest would follow it"
                if one.history
                else "without a history: no recovery follows it, but a promotion would meet it"
            )
            yield Outcome(
                "fail" if one.history else "warn",
                one.history or one.first_segment,
                shown,
                wanted,
                why,
                f"set archive_mode = off on the copy that wrote it, then: {one.removal} (if that"
                " copy is production by now, correct server.dsn)",
            )
        else:
            yield Outcome(
                "skip",
                one.history or one.first_segment,
                f"{shown}, ends at {one.ends_at}",
                f"one end of WAL, as timeline {here} has one at {report.restored.reached_lsn}",
                "production is gone: which of them was production's cannot be told",
                f"restore the one that has production's last rows; if timeline {one.timeline} is a"
                f" copy's: {one.removal}",
            )
    if not report.branches:
        yield Outcome("pass", "archive", f"timeline {here}", "production's, and no newer one")


def _current(context: Context) -> tuple[int, tuple[TimelineSwitch, ...]]:
    """Return the timeline that the server writes now, and its ancestors.

    Its own history file names them.
    """
    with context.system() as connection:
        row = connection.execute(
            "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
        ).fetchone()
        name = f"{row[0] if row else ''}.history"
        if name not in {found for (found,) in connection.execute(HISTORIES).fetchall()}:
            return int(name[:8], 16), ()
        text = connection.execute("SELECT pg_read_file(%s)", (f"pg_wal/{name}",)).fetchone()
    return int(name[:8], 16), parse_history(text[0]) if text else ()
