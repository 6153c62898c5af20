"""The goals as a plot: a bar for each measured value as a share of its goal, a line for the spread
of the rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.rows import Group, Row

LABELS, BARS, FIGURES, LINE = 470, 380, 130, 24  # pixels
MOST = 1.5  # times the goal: what is beyond ends there with an arrow
KEPT, MISSED = "#3a7d44", "#b3392f"


def plot(groups: Sequence[Group]) -> str:
    """An SVG document."""
    rows = [row for group in groups for row in group.rows if row.goal]
    width, height = LABELS + BARS + FIGURES, LINE * (len(rows) + 2)
    goal = LABELS + BARS / MOST
    drawn = "\n".join(_bar(row, LINE * (number + 1)) for number, row in enumerate(rows))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
{drawn}
<line x1="{goal:.0f}" y1="{LINE * 0.7:.0f}" x2="{goal:.0f}" y2="{height - LINE}" \
stroke="#333" stroke-dasharray="4 3"/>
<text x="{goal:.0f}" y="{LINE * 0.6:.0f}" text-anchor="middle">goal</text>
</svg>
"""


def _bar(row: Row, top: float) -> str:
    middle = top + LINE / 2
    value, low, high = (
        LABELS + BARS * min(number / (row.goal or 1), MOST) / MOST
        for number in (row.value, row.lowest, row.highest)
    )
    beyond = " →" if row.value > MOST * (row.goal or 1) else ""
    figure = f"{row.value:.3g}{row.unit and ' ' + row.unit} (≤ {row.goal:g}){beyond}"
    return (
        f'<text x="{LABELS - 8}" y="{middle + 4:.0f}"'
        f' text-anchor="end">{escape(row.measure)}</text><rect x="{LABELS}" y="{top + 4:.0f}"'
        f' width="{value - LABELS:.0f}" height="{LINE - 8}"'
        f' fill="{KEPT if row.verdict == "kept" else MISSED}"/><line x1="{low:.0f}"'
        f' y1="{middle:.0f}" x2="{high:.0f}" y2="{middle:.0f}" stroke="black"'
        f' stroke-width="2"/><text x="{LABELS + BARS + 6}"'
        f' y="{middle + 4:.0f}">{escape(figure)}</text>'
    )
