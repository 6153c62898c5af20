"""README.md and docs/how-to/install.md as commands: the blocks of their steps, by the number of the
step.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

PROJECT = Path(__file__).parents[2]
README, INSTALL = PROJECT / "README.md", PROJECT / "docs" / "how-to" / "install.md"
SECTIONS = {README: "## Point it at a real cluster\n", INSTALL: "## The steps\n"}
STEP = re.compile(r"^\*\*(\d+)\. ", re.MULTILINE)
BLOCK = re.compile(r"(?:^    .*\n|^\n(?=    ))+", re.MULTILINE)


def steps(page: Path = README) -> dict[int, list[str]]:
    """Number -> what the reader is told to run, one text for each block."""
    text = page.read_text("utf-8").partition(SECTIONS[page])[2].partition("\n## ")[0]
    parts = STEP.split(text)[1:]
    return {
        int(number): [dedent(block).strip("\n") for block in BLOCK.findall(part) if block.strip()]
        for number, part in zip(parts[::2], parts[1::2], strict=True)
    }
