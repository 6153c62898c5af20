"""Where the cluster's backups are encrypted, snapshots of its queues are, too, by the same key."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pgdrill.queues.take import take_snapshot
from pgdrill.queues.verify import verify
from tests.integration.queues.conftest import NUMBERS, PAYLOAD, World


def key_of(world: World) -> str:
    """A new secret key; a skip that says so without gpg."""
    home = world.home / f"gpg{next(NUMBERS)}"  # its sockets want a short path
    home.mkdir(mode=0o700)
    words = ["gpg", "--homedir", str(home), "--batch", "--passphrase", ""]
    made = [*words, "--quick-generate-key", "queues", "rsa2048", "cert,encr"]
    try:
        subprocess.run(made, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no gpg here (Debian: gnupg)")
    armored = subprocess.run(
        [*words, "--armor", "--export-secret-keys"], check=True, capture_output=True, text=True
    ).stdout
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    return armored


@pytest.mark.walg
def test_payloads_are_never_in_clear_where_wal_g_has_a_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("wal-g")
    if program is None:
        pytest.skip("no wal-g here: encryption is not tested")
    monkeypatch.setenv("WALG_PGP_KEY", key_of(world))
    access = world.access()
    record = take_snapshot(access)
    assert record.file.encrypted
    folder = Path(urlsplit(access.url).path, record.snapshot_id)
    stored = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert stored.keys() == {"record.json", "dump.rdb.enc"}
    assert len(stored["dump.rdb.enc"]) == record.file.stored_bytes
    assert not stored["dump.rdb.enc"].startswith(b"REDIS")
    assert not any(PAYLOAD.encode() in one for one in stored.values())
    report = verify(access)
    assert report.verdict == "passed", report.model_dump_json(indent=1)
    monkeypatch.setenv("WALG_PGP_KEY", another := key_of(world))
    report = verify(access)
    assert report.verdict != "passed"
    assert another.splitlines()[5] not in report.model_dump_json()
