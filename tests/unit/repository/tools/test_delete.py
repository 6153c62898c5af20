"""What the tools' dry runs say, read without guessing; commands that delete only when told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgdrill.config import RepositorySettings
from pgdrill.repository.tools import BackupTool
from pgdrill.repository.tools.barman import BarmanCloud
from pgdrill.repository.tools.walg import WalG

NAME = "base_000000010000000000000009"
HOME = Path("/srv/home")
SECRETS = {"AWS_SECRET_ACCESS_KEY": "canary-secret"}
WALG = WalG("/opt/wal-g", RepositorySettings(url="s3://bucket/agents"), SECRETS)
BARMAN = BarmanCloud(
    Path("/opt/bin"),
    "agents",
    RepositorySettings(url="s3://bucket/pre/fix", tool="barman-cloud"),
    SECRETS,
)

TARGET = f"""INFO: 2026/11/24 08:47:41.825414 Selecting the backup with name {NAME}...
INFO: 2026/11/24 08:47:41.825658 	will be deleted: {NAME}_backup_stop_sentinel.json, \
from storage: default
INFO: 2026/11/24 08:47:41.825661 	will be deleted: {NAME}/files_metadata.json, \
from storage: default
INFO: 2026/11/24 08:47:41.825688 Dry run, nothing were deleted"""
BEFORE = """INFO: 2026/11/24 08:47:41.793039 	will be deleted: \
wal_005/000000010000000000000001.lz4, from storage: default
INFO: 2026/11/24 08:47:41.793147 	will be deleted: \
pgdrill/backups/base_000000010000000000000005.json, from storage: default"""
SPARE = """Skipping deletion of objects \
['pre/fix/agents/base/20261124T084706/data.tar', \
'pre/fix/agents/base/20261124T084706/backup.info'] due to --dry-run option
Skipping deletion of all objects under prefix \
pre/fix/agents/wals/0000000100000000/ due to --dry-run option"""


def test_wal_gs_dry_run_is_read_as_keys_of_the_repository() -> None:
    base = "basebackups_005"
    assert WALG.named(TARGET, {}) == {
        f"{base}/{NAME}_backup_stop_sentinel.json",
        f"{base}/{NAME}/files_metadata.json",
    }
    assert WALG.named(BEFORE, {}) == {
        "wal_005/000000010000000000000001.lz4",
        "pgdrill/backups/base_000000010000000000000005.json",
    }
    assert WALG.named("nothing to do", {}) == set()


def test_barmans_dry_run_is_read_with_its_prefixes_spelt_out() -> None:
    wal = "agents/wals/0000000100000000/000000010000000000000001.gz"
    assert BARMAN.named(SPARE, {wal: 1, "agents/wals/0000000200000000/x": 1}) == {
        "agents/base/20261124T084706/data.tar",
        "agents/base/20261124T084706/backup.info",
        wal,
    }


@pytest.mark.parametrize("tool", [WALG, BARMAN], ids=lambda tool: tool.name)
def test_nothing_is_deleted_without_being_told_to(tool: BackupTool) -> None:
    dry, real = (tool.delete(NAME, home=HOME, confirm=confirm) for confirm in (False, True))
    assert ("--confirm" in real.argv) != ("--confirm" in dry.argv) or ("--dry-run" in dry.argv) != (
        "--dry-run" in real.argv
    )
    for command in (dry, real, tool.mark(NAME, permanent=True, home=HOME)):
        assert NAME in command.argv, "the full name, as one word"
        assert "canary" not in " ".join(command.argv)
        assert command.environment["HOME"] == str(HOME)


@pytest.mark.parametrize(
    ("key", "segment"),
    [
        ("wal_005/000000010000000000000009.lz4", "000000010000000000000009"),
        ("wal_005/000000010000000000000009.00000028.backup.lz4", "000000010000000000000009"),
        ("wal_005/000000010000000000000009.partial.lz4", "000000010000000000000009"),
        ("wal_005/00000002.history.lz4", ""),
        ("pgdrill/backups/base_000000010000000000000009.json", ""),
        ("dumps/000000010000000000000009", ""),
    ],
)
def test_an_objects_segment_is_told_by_the_wal_folder_only(key: str, segment: str) -> None:
    assert WALG.wal_key(key) == segment
    assert BARMAN.wal_key(key.replace("wal_005/", "agents/wals/0000000100000000/")) == (
        segment if "wal_005" in key else ""
    )
