"""Single WAL and history files, fetched with the tool itself."""

from __future__ import annotations

import time
from pathlib import Path

from pgdrill.access import Access
from pgdrill.errors import BackupFault
from pgdrill.host.process import Command, ProcessTimeout, Runner
from pgdrill.postgres.binaries import QUICK_SECONDS
from pgdrill.postgres.wal import LONGEST_HISTORY, TimelineSwitch, read_history
from pgdrill.repository.asked_again import Absent, asked_again
from pgdrill.repository.failures import says_absent, tool_failure, tool_timeout
from pgdrill.repository.wal_keys import archived_key

LARGEST_SEGMENT = 2**30  # that PostgreSQL can be made with
# What is compressed may be a thousand times as long, and the disk be full before anybody looks: the
# kernel ends the tool there. A shell counts in blocks of 512 bytes. Ignored, the signal would
# become an error that some tools try again on.
WRITING_AT_MOST = ("sh", "-c", 'ulimit -f "$0" && exec "$@"')


def fetch_wal_file(access: Access, runner: Runner, name: str, folder: Path) -> Path | None:
    """Fetch a segment or history file into ``folder``; None if there is none, or it cannot be
    unpacked.

    One that would be longer than any such file counts as one that cannot.
    """
    key = archived_key(*access.tool.wal_keys(), name)
    try:
        return asked_again(
            lambda: _fetched(access, runner, name, folder), access.repository, key, time.sleep
        )
    except Absent:
        return None


def _fetched(access: Access, runner: Runner, name: str, folder: Path) -> Path | None:
    file = folder / name
    file.unlink(missing_ok=True)  # wal-g refuses to write over one
    places = {"%f": name, "%p": str(file)}
    blocks = (LONGEST_HISTORY if name.endswith(".history") else LARGEST_SEGMENT) // 512 + 1
    words = tuple(places.get(word, word) for word in access.tool.wal_fetch())
    # One file on demand: without wal-g's prefetching, which would go on in the background.
    environment = {**access.tool.wal_environment(folder), "WALG_DOWNLOAD_CONCURRENCY": "1"}
    what = f"fetching {name}"
    try:
        done = runner.run(
            Command(words, environment, within=(*WRITING_AT_MOST, str(blocks))),
            timeout_seconds=QUICK_SECONDS,
            quiet=True,
        )
    except ProcessTimeout as error:
        raise tool_timeout(
            what, error, f"an end within {QUICK_SECONDS} s", "check the network and the store"
        ) from None
    if says_absent(done, access.tool.wal_absent_code):
        raise Absent(name)
    if done.code:
        failure = tool_failure(what, done)
        if failure.problem.reason.startswith("storage-"):  # whether it is there is not known
            raise failure
        file.unlink(missing_ok=True)
    return file if done.code == 0 and file.exists() and file.stat().st_size else None


def timeline_history(
    access: Access, runner: Runner, timeline: int, folder: Path
) -> tuple[TimelineSwitch, ...]:
    """The ancestors of a timeline, from its archived ``.history`` file; timeline 1 has none."""
    if timeline <= 1:
        return ()
    name = f"{timeline:08X}.history"
    file = fetch_wal_file(access, runner, name, folder)
    if file is None:
        raise history_missing(access, timeline)
    with file.open("rb") as opened:
        content = opened.read(LONGEST_HISTORY + 1)
    file.unlink()
    try:
        if (history := read_history(content))[-1].timeline < timeline:
            return history
        raise ValueError("a timeline that comes from a later one")  # noqa: TRY301
    except ValueError:
        raise BackupFault(
            "history-broken",
            f"{name} in {access.repository.url}",
            found=f"{len(content)} bytes that are no timeline's history",
            expected="lines of a timeline, the LSN at which it ended, and why",
            hint=(
                "archive it again from production's pg_wal, or take a base backup on the new"
                " timeline"
            ),
        ) from None


def history_missing(access: Access, timeline: int) -> BackupFault:
    """Return the error for a timeline without a history."""
    return BackupFault(
        "history-missing",
        f"{timeline:08X}.history in {access.repository.url}",
        found="no such object, or it cannot be read",
        expected=f"the history of timeline {timeline}, archived when production was promoted",
        hint="archive it again from production's pg_wal, or take a base backup on the new timeline",
    )
