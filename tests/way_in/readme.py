"""README.md as commands: the blocks of *Point it at a real cluster*, by the number of their step."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

PROJECT = Path(__file__).parents[2]
SECTION = "## Point it at a real cluster\n"
STEP = re.compile(r"^\*\*(\d+)\. ", re.MULTILINE)
BLOCK = re.compile(r"(?:^    .*\n|^\n(?=    ))+", re.MULTILINE)


def steps() -> dict[int, list[str]]:
    """Number -> what the reader is told to run, one text for each block."""
    text = (PROJECT / "README.md").read_text("utf-8").partition(SECTION)[2].partition("\n## ")[0]
    parts = STEP.split(text)[1:]
    return {int(number): [dedent(block).strip("\n") for block in BLOCK.findall(part) if block.strip()]
            for number, part in zip(parts[::2], parts[1::2], strict=True)}  # fmt: skip
