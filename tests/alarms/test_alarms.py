"""Each harm is told once, in time, and its end once. ``make alarms`` writes the table of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from pgdrill.access import Access
from pgdrill.config import load
from pgdrill.health.watch_beat import ALLOWED_SECONDS
from pgdrill.watch import once
from tests.alarms.live import NEVER, Live, watched
from tests.alarms.table import TABLE

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not os.environ.get("PGDRILL_THOROUGH"), reason="takes half an hour: make alarms"
    ),
]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with watched() as made:
        yield made


@dataclass(frozen=True)
class Told:
    """The harm's own message, and that of its end, in seconds after harm and mend."""

    severity: str
    after: float
    over: float


def harm(
    live: Live, words: str, cause: str, do: Callable[[], object], mend: Callable[[], object]
) -> Told:
    """Do it, wait for its message, mend it, wait for the end; then nothing is open and nothing was
    said twice.
    """
    live.settle()
    live.since = len(live.hook.requests)
    began = time.monotonic()
    do()
    start = live.told(cause, "start")
    mended = time.monotonic()
    mend()
    end = live.told(cause, "end")
    counts = live.counts()
    for other in counts.keys() - {cause}:
        live.told(other, "end")
    live.settle()
    counts = live.counts()
    for kinds in counts.values():
        assert (kinds["start"], kinds["end"], kinds["still"]) == (1, 1, 0), counts
    severity = next(
        (one.json["severity"] for one in live.messages
         if (one.json["cause"], one.json["kind"]) == (cause, "worse")),
        start.json["severity"],
    )  # fmt: skip
    found = Told(severity, round(start.at - began, 1), round(end.at - mended, 1))
    besides = ", ".join(sorted(counts.keys() - {cause})) or "nothing"
    row = [words, cause, severity, "webhook", found.after, found.over, 1, 1, besides]
    TABLE.keep(words, row)
    print(row)
    return found


def test_healthy_life_with_a_backup_a_vacuum_and_a_restart_says_nothing(live: Live) -> None:
    from pgdrill.backup import take_backup

    live.since = len(live.hook.requests)
    take_backup(live.stack.access)
    live.settle()
    with live.stack.connect() as connection:
        connection.execute("VACUUM (FREEZE, ANALYZE)")
    live.work()
    live.settle()
    live.stack.primary.stop()
    live.stack.primary.start()
    live.settle(6)
    assert live.counts() == {}


def test_replay_that_is_paused_is_told_between_30_and_45_seconds(live: Live) -> None:
    found = harm(
        live, "replay is paused", "replay-lag",
        lambda: live.on_standby("SELECT pg_wal_replay_pause()"),
        lambda: live.on_standby("SELECT pg_wal_replay_resume()"),
    )  # fmt: skip
    assert 30 <= found.after <= 45


def test_a_standby_that_is_killed_is_told(live: Live) -> None:
    found = harm(
        live, "the standby is killed", "standby",
        lambda: killed(live.stack.standby), live.stack.standby.start,
    )  # fmt: skip
    assert found.severity == "critical"


def killed(server: object) -> None:
    pid_file = server.data_directory / "postmaster.pid"  # type: ignore[attr-defined]
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)


def test_an_archive_command_that_breaks_is_told(live: Live) -> None:
    broken = live.stack.home / "broken"

    def do() -> None:
        broken.touch()
        live.work()

    harm(live, "archive_command breaks", "archiver", do, broken.unlink)


def test_a_primary_that_is_killed_is_told_alone(live: Live) -> None:
    harm(
        live, "the primary is killed", "server",
        lambda: killed(live.stack.primary), live.stack.primary.start,
    )  # fmt: skip


def test_a_repository_that_is_gone_is_told_though_alerts_are_kept_there(live: Live) -> None:
    harm(
        live, "the repository is taken away", "repository",
        live.stack.s3.stop, live.stack.s3.start,
    )  # fmt: skip


def test_keys_that_expire_are_told(live: Live) -> None:
    store = live.stack.s3
    right = store.secret_key

    def keys(secret: str) -> None:
        store.stop()
        store.secret_key = secret
        store.start()
        store.secret_key = right

    harm(live, "the keys expire", "repository", lambda: keys("f" * 40), lambda: keys(right))


def test_segments_that_are_deleted_are_told(live: Live) -> None:
    for _ in range(4):
        live.work()
    live.settle(6)
    folder = live.stack.s3.folder / live.stack.s3.bucket
    files = sorted(
        one for one in folder.rglob("wal_005/*") if len(one.name.partition(".")[0]) == 24
    )
    kept = {one: one.read_bytes() for one in files[-3:-1]}

    def mend() -> None:
        for file, content in kept.items():
            file.write_bytes(content)

    harm(
        live, "WAL segments are deleted", "wal-continuity",
        lambda: [file.unlink() for file in kept], mend,
    )  # fmt: skip


def test_a_watch_that_is_killed_is_told_by_whoever_else_looks(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**live.environment, "ALERT_SECRET": "sekret"}.items():
        monkeypatch.setenv(name, value)

    def do() -> None:
        live.stop()
        time.sleep(ALLOWED_SECONDS + 1)  # what a DAG finds that comes by then
        settings = load(live.stack.config_file)
        once(Access(settings.cluster("agents")), settings)

    harm(live, "the watch is killed; a DAG looks", "watch", do, live.start)


def test_a_failover_is_told_until_dr_toml_names_the_new_primary(live: Live) -> None:
    home = live.stack.home

    def mend() -> None:
        live.configure(f"{home}/sb", "")
        text = live.stack.config_file.read_text()
        live.stack.config_file.write_text(
            "\n".join(one for one in text.splitlines() if not one.startswith("standby_dsn"))
        )

    harm(
        live, "the standby is promoted", "standby",
        lambda: live.on_standby("SELECT pg_promote()"), mend,
    )  # fmt: skip


def test_what_never_ran_was_told_once_in_all_that_time(live: Live) -> None:
    kinds = [
        (one.json["cause"], one.json["kind"])
        for one in live.hook.requests
        if one.json["cause"] in NEVER
    ]
    assert sorted(kinds) == sorted((cause, "start") for cause in NEVER)
