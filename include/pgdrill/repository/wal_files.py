"""Single WAL and history files, fetched with the tool itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pgdrill.errors import BackupFault
from pgdrill.host.process import Command, ProcessTimeout, Runner
from pgdrill.postgres.binaries import QUICK_SECONDS, Binaries
from pgdrill.postgres.wal import LONGEST_HISTORY, TimelineSwitch, read_history
from pgdrill.repository.asked_again import Absent, asked_again
from pgdrill.repository.failures import says_absent, tool_failure, tool_timeout
from pgdrill.repository.repository import Repository

LARGEST_SEGMENT = 2**30  # that PostgreSQL can be made with
# What is compressed may be a thousand times as long, and the disk be full before anybody looks: the
# kernel ends the tool there. A shell counts in blocks of 512 bytes. Ignored, the signal would
# become an error that some tools try again on.
WRITING_AT_MOST = ("sh", "-c", 'ulimit -f "$0" && exec "$@"')


@dataclass(frozen=True, slots=True)
class WalReader:
    """Reads archived WAL a file at a time: the tool fetches it into ``folder``, and ``binaries``
    has the ``pg_waldump`` for it.
    """

    repository: Repository
    binaries: Binaries
    runner: Runner
    folder: Path

    def fetch(self, name: str) -> Path | None:
        """Fetch a segment or history file; None if there is none, or it cannot be unpacked.

        One that would be longer than any such file counts as one that cannot.
        """
        repository = self.repository
        repository.equip(self.folder)
        key, names = repository.wal_keys.of(name), repository.tool.archived_name
        try:
            return asked_again(
                lambda: self._fetched(name), repository.objects, key, names, time.sleep
            )
        except Absent:
            return None

    def _fetched(self, name: str) -> Path | None:
        tool, file = self.repository.tool, self.folder / name
        file.unlink(missing_ok=True)  # tools refuse to write over one
        places = {"%f": name, "%p": str(file)}
        blocks = (LONGEST_HISTORY if name.endswith(".history") else LARGEST_SEGMENT) // 512 + 1
        words = tuple(places.get(word, word) for word in tool.wal_fetch())
        environment = {**tool.wal_environment(self.folder), **tool.one_wal_environment(self.folder)}
        what = f"fetching {name}"
        try:
            done = self.runner.run(
                Command(words, environment, within=(*WRITING_AT_MOST, str(blocks))),
                timeout_seconds=QUICK_SECONDS,
                quiet=True,
            )
        except ProcessTimeout as error:
            raise tool_timeout(
                what, error, f"an end within {QUICK_SECONDS} s", "check the network and the store"
            ) from None
        if says_absent(done, tool.wal_absent_code):
            raise Absent(name)
        if done.code:
            failure = tool_failure(what, done)
            if failure.problem.reason.startswith("storage-"):  # whether it is there is not known
                raise failure
            file.unlink(missing_ok=True)
        return file if done.code == 0 and file.exists() and file.stat().st_size else None

    def history(self, timeline: int) -> tuple[TimelineSwitch, ...]:
        """The ancestors of a timeline, from its archived ``.history`` file; timeline 1 has none."""
        if timeline <= 1:
            return ()
        name, url = f"{timeline:08X}.history", self.repository.url
        file = self.fetch(name)
        if file is None:
            raise history_missing(url, timeline)
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
                f"{name} in {url}",
                found=f"{len(content)} bytes that are no timeline's history",
                expected="lines of a timeline, the LSN at which it ended, and why",
                hint=(
                    "archive it again from production's pg_wal, or take a base backup on the new"
                    " timeline"
                ),
            ) from None


def history_missing(url: str, timeline: int) -> BackupFault:
    """Return the error for a timeline without a history."""
    return BackupFault(
        "history-missing",
        f"{timeline:08X}.history in {url}",
        found="no such object, or it cannot be read",
        expected=f"the history of timeline {timeline}, archived when production was promoted",
        hint="archive it again from production's pg_wal, or take a base backup on the new timeline",
    )
