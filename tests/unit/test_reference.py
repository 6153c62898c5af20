"""The generated pages of docs/reference/ are what the program says today."""

from __future__ import annotations

import pytest

from pgdrill.cli.groups import IN_ORDER
from pgdrill.config import Cluster
from scripts.reference import PAGES, pages


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return {page.name: text for page, text in pages().items()}


@pytest.mark.parametrize(
    "name", ["checks.md", "cli.md", "configuration.md", "doctor.md", "health-checks.md"]
)
def test_a_page_is_up_to_date(made: dict[str, str], name: str) -> None:
    assert (PAGES / name).read_text("utf-8") == made[name], "run: make reference"


def test_every_command_has_a_heading_and_its_whole_first_sentence(made: dict[str, str]) -> None:
    for name in IN_ORDER:
        assert f"\n## `pgdrill {name}`\n" in made["cli.md"]
    assert "...\n* `" not in made["cli.md"]


def test_every_key_has_a_type_and_a_meaning(made: dict[str, str]) -> None:
    rows = [line for line in made["configuration.md"].splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert not [row for row in rows if "|  |" in row]
    for name, field in Cluster.model_fields.items():
        assert (
            field.exclude
            or f"clusters.NAME.{name}]" in made["configuration.md"]
            or f"| `{name}` |" in made["configuration.md"]
        )


def test_there_is_a_page_for_each_of_them_in_the_index() -> None:
    index = (PAGES.parent / "README.md").read_text()
    assert [
        name for name in ("cli.md", "configuration.md") if f"(reference/{name})" not in index
    ] == []
