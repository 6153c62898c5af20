"""WAL arithmetic: LSNs, segment names, histories, and which segments a replay needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.postgres.wal import (
    Segment,
    TimelineSwitch,
    format_lsn,
    parse_history,
    parse_lsn,
    read_history,
    segments_needed,
)

MB = 2**20
SIZES = st.sampled_from([1 * MB, 16 * MB, 64 * MB, 1024 * MB])


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("0/0", 0),
        ("0/3000028", 0x3000028),
        ("16/B374D848", 0x16B374D848),
        ("ffffffff/ffffffff", 2**64 - 1),
    ],
)
def test_an_lsn_is_a_byte_position(text: str, position: int) -> None:
    assert parse_lsn(text) == position
    assert format_lsn(position) == text.upper()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "0",
        "0/",
        "x/1",
        "0/1/2/",
        "-1/1",
        "0/1_0",
        " 0/1",
        "0/1\n",
        "0/100000000",
        "0/\u0661",
    ],
)
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no LSN"):
        parse_lsn(text)


@given(st.integers(0, 2**64 - 1))
def test_lsns_survive_being_written(position: int) -> None:
    assert parse_lsn(format_lsn(position)) == position


@given(st.integers(0, 2**63), st.integers(1, 2**32 - 1), SIZES)
def test_segment_names_survive_being_written(position: int, timeline: int, size: int) -> None:
    segment = Segment.holding(position, timeline, size)
    assert Segment.parse(segment.name, size) == segment
    assert segment.start_lsn <= position < segment.start_lsn + size


def test_segment_names_are_postgresqls() -> None:
    assert Segment.holding(parse_lsn("1/FF000000"), 1).name == "0000000100000001000000FF"
    assert Segment.holding(parse_lsn("2/0"), 1).name == "000000010000000200000000"
    assert Segment.holding(parse_lsn("0/40000000"), 3, 1024 * MB).name == "000000030000000000000001"


def test_names_sort_as_positions_do() -> None:
    positions = [0, 16 * MB, 2**32 - 1, 2**32, 2**40]
    names = [Segment.holding(position, 1).name for position in positions]
    assert names == sorted(names)


def test_a_history_names_the_ancestors() -> None:
    text = (
        "1\t0/5000158\tno recovery target specified\n\n# comment\n2\t0/9000000\tbefore 2000-01-01"
        " 00:00:00+00\n"
    )
    assert parse_history(text) == (TimelineSwitch(1, 0x5000158), TimelineSwitch(2, 0x9000000))
    assert parse_history("") == ()


@pytest.mark.parametrize(
    "line", ["2", "2\t", "x\t0/5000158\twhy", "2\t0/\twhy", "2\t05000158 why", "\x00\x01"]
)
def test_a_line_that_is_no_ancestor_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        parse_history(f"1\t0/5000158\twhy\n{line}")


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"1\t", b"\xff\xfe"])
def test_a_history_file_that_names_no_ancestor_is_none(content: bytes) -> None:
    with pytest.raises(ValueError):
        read_history(content)
    assert read_history(b"1\t0/5000158\twhy\n") == (TimelineSwitch(1, 0x5000158),)


def names(*arguments: object) -> list[list[str]]:
    return [[segment.name for segment in choices] for choices in segments_needed(*arguments)]  # type: ignore[arg-type]


def test_replay_on_one_timeline_needs_every_segment_through_the_target() -> None:
    assert names(0x2000028, 0x4000100, 1) == [[f"00000001000000000000000{n}"] for n in (2, 3, 4)]
    assert names(0x2000028, 0x2000100, 1) == [["000000010000000000000002"]]


def test_a_segment_in_which_the_timeline_changes_may_come_from_either() -> None:
    history = (TimelineSwitch(1, 0x3000500),)
    assert names(0x2000028, 0x4000100, 2, history) == [
        ["000000010000000000000002"],
        ["000000020000000000000003", "000000010000000000000003"],
        ["000000020000000000000004"],
    ]


def test_a_switch_on_a_boundary_leaves_no_choice() -> None:
    history = (TimelineSwitch(1, 0x3000000),)
    assert names(0x2000028, 0x3000100, 2, history) == [
        ["000000010000000000000002"],
        ["000000020000000000000003"],
    ]


def test_two_switches_in_one_segment_leave_three_choices() -> None:
    history = (TimelineSwitch(1, 0x2000100), TimelineSwitch(2, 0x2000200))
    assert names(0x2000028, 0x2000300, 3, history) == [
        ["000000030000000000000002", "000000020000000000000002", "000000010000000000000002"]
    ]


@given(st.integers(0, 2**40), st.integers(0, 200), SIZES)
def test_no_segment_is_left_out(start: int, count: int, size: int) -> None:
    found = list(segments_needed(start, start + count * size, 1, (), size))
    assert [choices[0].number for choices in found] == list(
        range(start // size, start // size + count + 1)
    )
