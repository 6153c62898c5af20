"""A diagnosis for the terminal: a line for each answer.

Below one that is not green stand what was expected and the hint.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from rich.console import Console
from rich.text import Text

from pgdrill.doctor.examination import Examination
from pgdrill.doctor.model import Diagnosis, Line, Status
from pgdrill.reports.terminal import seconds
from pgdrill.text import one_line

STYLES: dict[Status, str] = {
    "green": "green",
    "warn": "yellow",
    "red": "bold red",
    "unknown": "bold cyan",
    "not asked": "dim",
}


def print_diagnosis(found: Diagnosis, console: Console) -> None:
    """Print all lines by part, then the counts."""
    for part, lines in groupby(found.lines, key=lambda line: line.part):
        console.print(Text(part, style="bold"))
        for line in lines:
            print_line(line, console)
    counts = ", ".join(f"{count} {status}" for status in STYLES if (count := found.count(status)))
    style = STYLES["red" if found.exit_code == 1 else "unknown" if found.exit_code else "green"]
    verdict = (
        "all good" if not found.count("warn") else "works, with warnings",
        "something is wrong",
        "not all could be asked",
    )[found.exit_code]
    console.print(
        Text(
            f"\n{found.cluster} on {found.host} as {found.user}, for {', '.join(found.jobs)}:"
            f" {verdict}. {counts}. {seconds(found.seconds)}.",
            style=style,
        ),
        soft_wrap=True,
    )


def print_line(line: Line, console: Console) -> None:
    """Print one answer."""
    words = ": ".join(dict.fromkeys((line.name, one_line(line.thing), one_line(line.found))))
    console.print(
        Text.assemble((f"  {line.status:<9}", STYLES[line.status]), f" {words}"), soft_wrap=True
    )
    if line.status in ("green", "not asked"):
        return
    for label, words in (("expected", line.expected), ("hint", line.hint)):
        if words:
            console.print(Text(f"            {label:<8}  {one_line(words)}"), soft_wrap=True)


def as_markdown(examinations: Iterable[Examination]) -> str:
    """Return the table of docs/reference/doctor.md."""
    lines = []
    for part, group in groupby(examinations, key=lambda one: one.part):
        lines += [
            f"### {part.capitalize()}",
            "",
            "| examination | green means | a red answer | hint |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{one.name}` | {_cell(one.green)} | {_cell(one.example)} | {_cell(one.hint)} |"
            for one in group
        ]
        lines.append("")
    return "\n".join(lines)


def _cell(words: str) -> str:
    return words.replace("|", "\\|")
