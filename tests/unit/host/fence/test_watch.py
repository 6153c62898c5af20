"""The look from outside at a restored server's descriptors, while they come and go."""

from __future__ import annotations

import os
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgdrill.host.fence import watch


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        yield server


def sockets_of_this_process(tmp_path: Path) -> Counter[str]:
    bounds = watch.Bounds((os.readlink("/proc/self/exe"),), (str(tmp_path),))  # noqa: PTH115
    return Counter(words for words in watch.strange([os.getpid()], bounds) if "socket" in words)


@pytest.fixture
def sockets_seen(tmp_path: Path) -> Callable[[], list[str]]:
    """What is strange among the sockets of this very process, but for those that pytest's plugins
    have.
    """
    before = sockets_of_this_process(tmp_path)
    return lambda: list((sockets_of_this_process(tmp_path) - before).elements())


def at_the_tables(
    monkeypatch: pytest.MonkeyPatch, *, before: Callable[[], object], after: Callable[[], object]
) -> None:
    read = watch._sockets

    def sockets(place: Path) -> object:
        before()
        found = read(place)
        after()
        return found

    monkeypatch.setattr(watch, "_sockets", sockets)


def test_a_client_that_comes_or_goes_during_the_look_is_nothing_strange(
    listening: socket.socket,
    sockets_seen: Callable[[], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket(socket.AF_UNIX) as leaving, socket.socket(socket.AF_UNIX) as coming:
        leaving.connect(str(tmp_path / "s"))
        left, _ = listening.accept()
        came: list[socket.socket] = []

        def comes() -> None:
            coming.connect(str(tmp_path / "s"))
            came.append(listening.accept()[0])

        at_the_tables(monkeypatch, before=left.close, after=comes)
        assert sockets_seen() == []
        came[0].close()


def test_a_file_closed_during_the_look_does_not_hide_the_others(
    sockets_seen: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "short").open("w") as short, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW):
        at_the_tables(monkeypatch, before=short.close, after=lambda: None)
        assert sockets_seen() == ["socket (of an unknown kind)"]


def test_a_socket_to_the_world_is_strange(sockets_seen: Callable[[], list[str]]) -> None:
    with socket.socket(socket.AF_INET) as tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        assert sockets_seen() == ["socket (tcp)"]


def test_the_tables_of_a_network_are_read_once_for_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    at_the_tables(monkeypatch, before=lambda: reads.append(1), after=lambda: None)
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE) as other:
        programs = tuple(os.readlink(f"/proc/{pid}/exe") for pid in (os.getpid(), other.pid))  # noqa: PTH115
        found = list(watch.strange([other.pid, os.getpid()], watch.Bounds(programs, ("/",))))
        other.kill()
    assert not [words for words in found if words.startswith("process")]
    assert len(reads) == 1


def test_a_process_that_ends_while_its_tables_are_read_hides_none_of_another_one(
    listening: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables would be empty, and the others' sockets of an unknown kind."""
    other = subprocess.Popen(["sleep", "60"])

    def end() -> None:
        other.kill()
        other.wait()

    programs = tuple(os.readlink(f"/proc/{pid}/exe") for pid in (os.getpid(), other.pid))  # noqa: PTH115
    at_the_tables(monkeypatch, before=end, after=lambda: None)
    found = list(watch.strange([other.pid, os.getpid()], watch.Bounds(programs, (str(tmp_path),))))
    assert f"Unix socket {tmp_path}/s" not in found
    assert "socket (of an unknown kind)" not in found
