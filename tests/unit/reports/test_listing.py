"""Rows of texts on terminals of any width: what is copied or compared is never broken over
lines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pgdrill.reports.listing import grid

HEADINGS = ("base backup", "finished (UTC)", "size", "why")
ROWS = [
    (
        f"base_{n:024X}",
        "2026-11-29 18:56",
        f"{n * 7}.4 MB",
        "restores instants of the promised days, and is the newest of its week",
    )
    for n in (3, 9000)
]


def shown(width: int, rows: list[tuple[str, ...]] = ROWS) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(grid(HEADINGS, rows, right=("size",), prose=("why",)))
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_names_times_and_figures_stand_whole_at_any_width(width: int) -> None:
    text = shown(width)
    for name, at, size, why in ROWS:
        assert all(part in text for part in (name, at, size))
        assert set(why.split()) <= set(text.split())
    assert max(map(len, text.splitlines())) <= width


def test_it_is_a_table_where_that_fits_and_a_list_where_not() -> None:
    assert "base backup" in shown(100).splitlines()[0]
    assert shown(60).splitlines()[0].rstrip() == ROWS[0][0]
    assert "  finished (UTC)  2026-11-29 18:56" in shown(60)


def test_a_name_longer_than_the_terminal_is_broken_and_not_cut() -> None:
    text = shown(40, [("n" * 100, "", "", "")])
    assert text.count("n") == 100
    assert "size" not in text, "a cell without anything has no line"
