"""Pages that are looked at while they arrive: only of files that nobody touches, and what is changed later counts for nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from pgdrill.idle import IdleCores
from pgdrill.pages_ahead import Found, _Wait, look, relation_files, state
from tests.unit.test_page_checksums import page_of

GOOD = page_of(1, 0) + page_of(2, 1)


def ready() -> None:
    """There is a core."""


def untouched() -> None:
    """As long as a file has to lie there before it is looked at."""
    threading.Event().wait(0.25)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of one database."""
    folder = tmp_path / "data" / "base" / "5"
    folder.mkdir(parents=True)
    return folder


def found(tmp_path: Path, *rounds: dict[str, tuple[int, int]]) -> Found:
    """What the check reads."""
    file = tmp_path / "sound-pages"
    file.write_text("".join(json.dumps([path, *now]) + "\n" for one in rounds for path, now in one.items()))
    return Found(file)


def test_files_of_relations_are_told_from_others(data: Path) -> None:
    for name in ("16385", "16385.1", "16385_fsm", "16385_vm", "16385_init", "pg_filenode.map", "t3_16400"):
        (data / name).touch()
    xact = data.parents[1] / "pg_xact"
    xact.mkdir()
    (xact / "0000").touch()
    assert sorted((file.name, segment) for file, segment in relation_files([data.parents[1]])) == [
        ("16385", 0), ("16385.1", 1), ("16385_fsm", 0), ("16385_vm", 0),
    ]  # fmt: skip


def test_a_file_is_looked_at_once_it_is_left_alone_and_only_once(data: Path) -> None:
    (data / "16385").write_bytes(GOOD)
    seen: dict[str, tuple[int, int]] = {}
    assert not list(look([data], seen, ready))
    untouched()
    assert [path for path, _ in look([data], seen, ready)] == [str(data / "16385")]
    assert not list(look([data], seen, ready))


@pytest.mark.parametrize("content", [GOOD[:-1], page_of(1, 1), GOOD[:100] + b"?" + GOOD[101:]])
def test_what_is_not_sound_is_not_noted(data: Path, content: bytes) -> None:
    (data / "16385").write_bytes(content)
    untouched()
    assert not list(look([data], {}, ready))


def test_a_later_segment_counts_its_pages_on(data: Path) -> None:
    (data / "16385.1").write_bytes(page_of(3, 2**17) + page_of(4, 2**17 + 1))
    untouched()
    assert len(list(look([data], {}, ready))) == 1


def test_a_relation_is_whole_if_all_its_files_were_sound_and_none_was_changed(data: Path, tmp_path: Path) -> None:
    files = [data / name for name in ("16385", "16385_fsm", "16386")]
    for file in files:
        file.write_bytes(GOOD)
    untouched()
    noted = dict(look([data], {}, ready))
    assert found(tmp_path, noted).whole(data / "16385")
    assert found(tmp_path, noted).whole(data / "16386")
    assert not found(tmp_path, {str(files[0]): noted[str(files[0])]}).whole(data / "16385")  # its map was not looked at
    assert not found(tmp_path, noted).whole(data / "16387")  # no such file
    times = files[2].stat()
    files[2].write_bytes(GOOD)
    os.utime(files[2], ns=(times.st_atime_ns, times.st_mtime_ns))  # as tar sets it
    assert not found(tmp_path, noted).whole(files[2])


def test_a_new_file_beside_those_that_were_sound_is_the_servers_to_read(data: Path, tmp_path: Path) -> None:
    (data / "16385").write_bytes(GOOD)
    untouched()
    noted = dict(look([data], {}, ready))
    (data / "16385_vm").write_bytes(GOOD)
    assert not found(tmp_path, noted).whole(data / "16385")


def test_a_line_that_was_being_written_when_it_was_ended_counts_for_nothing(tmp_path: Path) -> None:
    file = tmp_path / "sound-pages"
    file.write_text('["/data/base/5/1", 1, 8192]\n["/data/base/5/2", 17')
    assert Found(file).noted == {"/data/base/5/1": (1, 8192)}
    assert Found(tmp_path / "none").noted == {}


def test_the_process_ends_with_the_one_that_started_it(data: Path, tmp_path: Path) -> None:
    code = (
        "import sys, threading; from pathlib import Path; from pgdrill.pages_ahead import pages_ahead\n"
        "with pages_ahead(Path(sys.argv[1]), [Path(sys.argv[2])], Path(sys.argv[2])): print('on', flush=True); threading.Event().wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "found"), str(data)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout and parent.stdout.readline() == "on\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.send_signal(signal.SIGKILL)
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


def test_it_works_only_while_half_of_the_cores_are_idle_and_looks_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = [0.9, 0.4, 0.0]  # from the last look to the first
    monkeypatch.setattr(IdleCores, "look", lambda _: idle.pop())
    wait = _Wait(os.getppid())
    wait()
    assert not idle
    monkeypatch.setattr(IdleCores, "look", lambda _: pytest.fail("it looked again at once"))
    wait()


def test_it_ends_where_nobody_waits_for_it() -> None:
    with pytest.raises(SystemExit):
        _Wait(os.getpid())()  # which is not its parent


def test_a_state_knows_a_change_that_leaves_size_and_time_of_modification(tmp_path: Path) -> None:
    file = tmp_path / "1"
    file.write_bytes(GOOD)
    before = file.stat()
    untouched()
    file.write_bytes(GOOD[::-1])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_mtime_ns, file.stat().st_size) == (before.st_mtime_ns, before.st_size)
    assert state(file.stat()) != state(before)
