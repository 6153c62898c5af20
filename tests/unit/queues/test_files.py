"""Files of snapshots: their first and last bytes, and those of keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pgdrill.queues import keys
from pgdrill.queues.address import Address
from pgdrill.queues.keys import Entry
from pgdrill.queues.rdb import check_end, read_header

# as Redis 7.0.15 wrote it: one key
RDB = bytes.fromhex(
    "524544495330303130fa0972656469732d76657206372e302e3135fa0a72656469732d62697473c040"
    "fa056374696d65c253df0d6bfa08757365642d6d656dc268160f00fa08616f662d62617365c000"
    "fe00fb0100000161c001ff48e434cd1b1af35f"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "dump.rdb"
    made.write_bytes(RDB)
    return made


def test_the_header_tells_who_wrote_it_and_when(file: Path) -> None:
    header = read_header(file)
    assert (header.magic, header.version) == ("REDIS0010", 10)
    assert header.fields["redis-ver"] == "7.0.15"
    assert header.fields["used-mem"] == str(0x0F1668)
    assert header.at == datetime.fromtimestamp(0x6B0DDF53, UTC)
    assert check_end(file)


def test_without_a_checksum_is_told_and_without_an_end_is_refused(file: Path) -> None:
    file.write_bytes(RDB[:-8] + bytes(8))
    assert not check_end(file)
    for content in (RDB[:-1], RDB[:40], b"", b"not an RDB file, but long enough to be one"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"end|begin|whole"):
            read_header(file)
            check_end(file)


@pytest.mark.parametrize("part", range(9, 80))
def test_a_header_that_was_cut_or_lies_ends_in_words(file: Path, part: int) -> None:
    for content in (RDB[:part], RDB[:part] + b"\xff" * 40):
        file.write_bytes(content)
        try:
            read_header(file)
        except ValueError as error:
            assert str(error)


def test_keys_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "dump.keys"
    entries = [
        Entry(0, b"", b"functions"),
        Entry(3, b"a\0b", b"\xff" * 1000, 99),
        Entry(0, b"k", b""),
    ]
    assert keys.save(file, iter(entries)) == 3
    assert list(keys.load(file)) == entries
    content = file.read_bytes()
    for damaged in (content[:-1], content[:-30], content + b"x", content[9:], content[:9]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"end|begin|key"):
            list(keys.load(file))


@pytest.mark.parametrize("text", ["redis", "h:port", "u:p@h:1", "http://h:1", ":1", ""])
def test_an_address_is_a_host_and_a_port_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        Address.parse(text)
    assert str(Address.parse("[::1]:6379")) == "[::1]:6379"
    assert Address.parse("/run/redis.sock").is_socket
