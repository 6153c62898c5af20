"""The look from outside at a restored server's descriptors, while they come and go."""

from __future__ import annotations

import os
import socket
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
    return Counter(words for words in watch.strange(os.getpid(), bounds) if "socket" in words)


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
