"""Rows of texts: a table where it fits, else a list.

What is copied or compared (names, numbers) is never broken over lines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from pgdrill.text import one_line

PROSE_COLUMNS = 24  # the least that a column of words is folded to
LONGEST_WORD = 40  # a longer one may be broken
BETWEEN = 2  # columns of padding between two columns of a table


@dataclass(frozen=True)
class Grid:
    """Rows below headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Collection[str] = ()  # columns of numbers
    prose: Collection[str] = ()  # columns of words, which may be folded

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield a table if every column has the room that it needs, else the rows as a list."""
        if self._needed() <= options.max_width:
            yield self._table()
        else:
            yield from self._list()

    def _needed(self) -> int:
        columns = [
            [heading, *cells] for heading, *cells in zip(self.headings, *self.rows, strict=True)
        ]
        return sum(self._least(column) for column in columns) + BETWEEN * (len(columns) - 1)

    def _least(self, column: Sequence[str]) -> int:
        """Return the least columns of a terminal that a column can do with.

        Words are folded between words.
        """
        width = max(map(cell_len, column))
        if column[0] not in self.prose:
            return width
        longest = max((cell_len(word) for cell in column for word in cell.split()), default=0)
        return min(width, max(PROSE_COLUMNS, min(longest, LONGEST_WORD)))

    def _table(self) -> Table:
        table = Table(
            box=box.SIMPLE_HEAD,
            padding=(0, 1),
            pad_edge=False,
            show_edge=False,
            collapse_padding=True,
        )
        for heading in self.headings:
            table.add_column(
                Text(heading),
                overflow="fold",
                no_wrap=heading not in self.prose,
                justify="right" if heading in self.right else "left",
            )
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def _list(self) -> Iterable[Text | Table]:
        for first, *rest in self.rows:
            yield Text(first, style="bold", overflow="fold")
            pairs = Table.grid(padding=(0, 2), pad_edge=False)
            pairs.add_column(no_wrap=True)
            pairs.add_column(overflow="fold")
            for heading, cell in zip(self.headings[1:], rest, strict=True):
                if cell:
                    pairs.add_row(Text(f"  {heading}"), Text(cell))
            yield pairs


def grid(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    prose: Collection[str] = (),
) -> Grid:
    """Return rows of texts that others wrote, each cell on one line of its own text."""
    return Grid(
        [one_line(heading) for heading in headings],
        [[one_line(cell) for cell in row] for row in rows],
        right,
        prose,
    )
