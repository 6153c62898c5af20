"""What is left of a stack whose first processes were killed: found, ended, and nobody else with
it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pgdrill.host.process import end_session, mark_process
from pgdrill_demo.stack import tear_down

# As Airflow's: it forks workers that outlive it, one of them gives itself a title, which takes the
# place of its variables.
LEADER = """
import os, signal, sys, time
for number in range(3):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if number else signal.SIG_DFL)
        break
else:
    print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that leads a session with three more in it, written down in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEADER],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    mark_process(tmp_path / "standalone.pid", process.pid)
    yield process
    process.stdout.close()
    for pid in session(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def session(number: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == number and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def test_the_workers_of_a_killed_process_are_found_by_its_session_and_ended(
    tmp_path: Path, leader: subprocess.Popen[str]
) -> None:
    leader.kill()
    leader.wait()
    assert len(session(leader.pid)) == 3
    assert tear_down(tmp_path) == []
    assert session(leader.pid) == []


def test_a_session_is_told_from_one_that_got_its_number_later(
    tmp_path: Path, leader: subprocess.Popen[str]
) -> None:
    mark = tmp_path / "standalone.pid"
    # another process had that number before
    mark.write_text(mark.read_text().replace('"started": ', '"started": 1'))
    assert end_session(mark) == 0
    assert len(session(leader.pid)) == 4


def test_who_only_looks_at_the_folder_is_named_and_left_alone(tmp_path: Path) -> None:
    looking = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    try:
        (told,) = tear_down(tmp_path)
        assert told == f"{looking.pid} sleep 60"
        assert looking.poll() is None
    finally:
        looking.kill()
        looking.wait()


def test_what_was_given_a_home_in_the_folder_is_the_stacks(tmp_path: Path) -> None:
    tool = subprocess.Popen(
        ["sleep", "60"],
        env={"HOME": str(tmp_path / "archiver-home"), "PATH": os.environ["PATH"]},
        start_new_session=True,
    )
    assert tear_down(tmp_path) == []
    assert tool.wait(5) == -signal.SIGTERM
