"""The page of the rooms names every room, in the order that ``make lint`` holds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_names_every_room_in_the_order_that_is_held() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    (contract,) = (one for one in contracts if one["type"] == "layers")
    rows = re.findall(
        r"^\| (`.*?) \|",
        (ROOT / "docs" / "explanation" / "architecture.md").read_text(),
        re.MULTILINE,
    )
    named = [
        re.sub(r"(/|\.py)$", "", name) for row in rows for name in re.findall(r"`([^`]+)`", row)
    ]
    assert named == contract["layers"]
