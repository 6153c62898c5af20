"""The order: what a prefetcher is told, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgdrill.config import RepositorySettings
from pgdrill.postgres.wal import Segment, TimelineSwitch
from pgdrill.recovery.wal_prefetch.order import Order, ToolWords
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools import BackupTool
from pgdrill.repository.tools.barman import BarmanCloud
from pgdrill.repository.tools.walg import WalG

MB = 2**20
EMPTY = Storage.open("s3://b/p", {})
WALG = WalG("wal-g", RepositorySettings(url="s3://b/p"), {"AWS_SECRET_ACCESS_KEY": "canary"})
BARMAN = BarmanCloud(
    Path("/bin"), "agents", RepositorySettings(url="s3://b/p", tool="barman-cloud"), {}
)


def order(tool: BackupTool = WALG, **more: object) -> Order:
    keys = tool.wal_keys(EMPTY)
    bulk = tool.wal_bulk(16 * MB)
    values: dict[str, object] = {
        "spool": "/spool",
        "incoming": "/incoming",
        "url": "s3://b/p",
        "endpoint_url": "",
        "region": "r",
        "keys": keys,
        "names": tool.archived_name.pattern,
        "suffix": ".lz4",
        "readable": True,
        "system_identifier": 2**63 + 1,
        "major_version": 18,
        "tool": ToolWords(
            tool.name,
            tool.wal_fetch(),
            tool.wal_absent_code,
            tool.exit_codes,
            bulk.argv,
            bulk.environment,
            bulk.folder,
        ),
        "segment_bytes": 16 * MB,
        "start_lsn": 3 * 16 * MB + 40,
        "stop_lsn": 9 * 16 * MB,
        "timeline": 2,
        "history": (TimelineSwitch(1, 5 * 16 * MB + 100),),
        **more,
    }
    return Order(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("tool", [WALG, BARMAN])
def test_it_arrives_as_it_was_sent_without_any_secret(tool: BackupTool) -> None:
    sent = order(tool)
    assert "\n" not in sent.to_json()
    assert "canary" not in sent.to_json()
    assert Order.from_json(sent.to_json()) == sent


def test_files_are_where_each_tool_keeps_them() -> None:
    name = "0000000100000002000000FE"
    assert order().key(name) == f"wal_005/{name}"
    assert order().key("00000002.history") == "wal_005/00000002.history"
    assert order(BARMAN).key(name) == f"agents/wals/0000000100000002/{name}"
    assert order(BARMAN).key("00000002.history") == "agents/wals/00000002.history"


def test_it_ends_with_the_segment_of_the_byte_before_the_target() -> None:
    assert (order().first, order().last) == (3, 8)
    assert order(stop_lsn=9 * 16 * MB + 1).last == 9
    assert order(stop_lsn=3 * 16 * MB + 40).last == 3
    assert order(stop_lsn=None).last is None


def test_a_segment_in_which_timelines_change_may_be_read_from_either() -> None:
    assert order().choices(4) == (Segment(1, 4),)
    assert order().choices(5) == (Segment(2, 5), Segment(1, 5))
    assert order().choices(6) == (Segment(2, 6),)
    assert order().timelines == {1, 2}
    assert order(history=()).timelines == frozenset()


def test_the_first_the_last_and_every_nth_are_compared() -> None:
    assert [n for n in range(3, 9) if order(tool_sample=3).is_sample(n)] == [3, 6, 8]
    assert not any(order(tool_sample=0).is_sample(n) for n in range(3, 9))


@pytest.mark.parametrize(
    "name",
    [
        "WALG_PGP_KEY",
        "WALG_PGP_KEY_PATH",
        "WALG_GPG_KEY_ID",
        "WALG_LIBSODIUM_KEY",
        "WALG_LIBSODIUM_KEY_PATH",
        "WALG_CSE_KMS_ID",
    ],
)
def test_a_key_means_that_only_the_tool_can_read(name: str) -> None:
    assert WALG.encrypts({name: "x"})
    assert not WALG.encrypts({name: ""})
    assert not BARMAN.encrypts({name: "x"})


def test_without_a_key_there_is_no_need_for_the_tool() -> None:
    assert not WALG.encrypts(
        {**WALG.environment(), "WALG_PGPFOO": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    )
