"""Whoever asks doctor is told what that user's jobs meet: the data directory's owner, root in its
place, and files that root left there.

On Debian's PostgreSQL, set up by the README.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from typing import Any

import pytest

from tests.setups.debian import DebianHost
from tests.way_in.site import Site

COMMAND = re.compile(r"`([^`]+)`")
as_root_alone = pytest.mark.skipif(os.geteuid() != 0, reason="needs root beside an ordinary user")


@pytest.fixture(scope="module")
def host(site: Site) -> DebianHost:
    made = DebianHost(site)
    made.follow()
    return made


def lines(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of doctor, by name; the worst of each."""
    order = ("green", "not asked", "warn", "unknown", "red")
    return {
        one["name"]: one
        for one in sorted(said["lines"], key=lambda one: order.index(one["status"]))
    }


def red(said: dict[str, Any]) -> set[str]:
    return {one["name"] for one in said["lines"] if one["status"] in ("red", "unknown")}


def as_root(host: DebianHost, words: str) -> tuple[int, dict[str, Any]]:
    """The same command with the same variables, as root."""
    site = host.site
    script = (
        f"cd {site.home}/user && . {site.home}/state && export HOME={site.home}/user && pgdrill"
        f" {words} --json"
    )
    done = subprocess.run(
        ["bash", "-euc", script], capture_output=True, text=True, env=site.environment, check=False
    )
    return done.returncode, json.loads(done.stdout)


def test_the_owner_has_nothing_red_and_backs_up(host: DebianHost) -> None:
    said = host.pgdrill("doctor", "agents").said
    assert red(said) == set()
    assert lines(said)["checksums"]["status"] == "warn"
    assert host.pgdrill("backup", "agents").code == 0


@as_root_alone
def test_root_is_told_that_the_owner_should_ask_and_neither_doctor_nor_the_backup_is_red(
    host: DebianHost,
) -> None:
    _, said = as_root(host, "doctor agents --for backup")
    assert red(said) == set()
    line = lines(said)["data-directory"]
    assert line["status"] == "warn"
    assert COMMAND.findall(line["hint"]) == [
        f"runuser -u {host.site.user} -- pgdrill doctor agents"
    ]
    code, backup = as_root(host, "backup agents")
    assert code == 0, backup
    subprocess.run(["chown", "-R", host.site.user, host.site.work], check=True)


def test_a_file_in_pgdata_that_its_owner_cannot_read_is_told_by_doctor_and_backup_alike_until_the_hint_is_followed(  # noqa: E501
    host: DebianHost,
) -> None:
    """As a key that root has put there: wal-g ends at it."""
    key = host.site.data / "server.key"
    host.site.as_root(f"install -m 0600 /dev/null {key}")
    if os.geteuid() != 0:
        key.chmod(0)
    said = host.pgdrill("doctor", "agents").said
    line = lines(said)["data-directory"]
    assert (line["status"], line["reason"]) == ("red", "not-the-owner")
    assert f"{key} cannot be read by {host.site.user}" in line["found"]
    error = host.pgdrill("backup", "agents").said["error"]
    assert (error["reason"], error["found"], error["hint"]) == (
        line["reason"],
        line["found"],
        line["hint"],
    )
    host.site.as_root(COMMAND.findall(line["hint"])[0])
    assert lines(host.pgdrill("doctor", "agents").said)["data-directory"]["status"] == "green"
    assert host.pgdrill("backup", "agents").code == 0


@as_root_alone
@pytest.mark.parametrize("left", ["agents", "agents/backup.lock"])
def test_what_root_s_jobs_left_in_the_work_directory_is_told_to_the_owner_s(
    host: DebianHost, left: str
) -> None:
    folder = host.site.work / "agents"
    assert (host.site.work / left).exists()
    subprocess.run(["chown", "-R", "root", host.site.work / left], check=True)
    try:
        line = lines(host.pgdrill("doctor", "agents").said)["work-directory"]
        assert line["status"] == "red"
        assert f"{folder}" in line["thing"]
        done = host.pgdrill("backup", "agents")
        assert "error" in done.said, done
        assert (done.code, done.said["error"]["reason"]) == (2, line["reason"]), done.stderr
        subprocess.run(shlex.split(COMMAND.findall(line["hint"])[0]), check=True)
        assert lines(host.pgdrill("doctor", "agents").said)["work-directory"]["status"] == "green"
    finally:
        subprocess.run(["chown", "-R", host.site.user, folder], check=True)
    assert host.pgdrill("backup", "agents").code == 0
