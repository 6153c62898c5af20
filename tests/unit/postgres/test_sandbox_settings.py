"""Replay has settings of its own; what is judged afterwards runs with production's."""

from __future__ import annotations

from pathlib import Path

from pgdrill.postgres import sandbox_settings


def test_after_replay_its_settings_are_productions_or_the_defaults(tmp_path: Path) -> None:
    values = sandbox_settings.settings(
        recovery=sandbox_settings.Recovery("cp 'a' b", target={}, timeline="1"),
        limits={},
        preload="",
        planned_with={},
        fast=False,
    )
    (tmp_path / "data").mkdir()
    config = Path(sandbox_settings.write(tmp_path, tmp_path / "data", values)["config_file"])
    assert "max_wal_size = '4GB'" in config.read_text()
    before = config.read_text().splitlines()
    sandbox_settings.end_replaying(
        config, sandbox_settings.replayed({"max_wal_size": "2048", "work_mem": "9", "port": "1"})
    )
    after = config.read_text().splitlines()
    assert set(after) - set(before) == {"max_wal_size = '2048'"}
    assert {line.split()[0] for line in set(before) - set(after)} == set(sandbox_settings.REPLAYING)


def test_a_restored_server_has_room_for_two_of_its_segments() -> None:
    for megabytes, wanted in ((1, "80MB"), (16, "80MB"), (64, "128MB"), (1024, "2048MB")):
        values = sandbox_settings.settings(
            recovery=sandbox_settings.Recovery("", target={}, timeline="1"),
            limits={},
            preload="",
            planned_with={},
            fast=False,
            segment_bytes=megabytes * 2**20,
        )
        assert values["min_wal_size"] == wanted
