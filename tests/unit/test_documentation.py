"""README.md and docs/ are a house: every link leads somewhere, every page is found, and what they
name is there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from pgdrill.cli import app
from tests.way_in.readme import INSTALL, README, steps

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = ("include", "tests", "bench", "dags", "scripts")
README_LINES = 150
DECISION_LINES = 40

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PAGE = re.compile(r"(?<![\w/.-])docs/[\w/.-]+\.(?:md|svg|png)\b")
SPAN = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w./-]*\w\.(?:py|md|yaml)|Dockerfile|Makefile")
TARGET = re.compile(r"(?:`|^ {4,}(?:\$ )?)make ([a-z][a-z0-9-]*)", re.MULTILINE)
COMMAND = re.compile(r"(?:`|^ {4,}(?:\$ )?)pgdrill ([a-z][a-z-]*)", re.MULTILINE)
# Files of other projects: Alembic's.
STRANGERS = {"env.py"}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that forges make of a page's headings."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in HEADING.findall(FENCED.sub("", page.read_text("utf-8"))):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Each link within the project: path and anchor as they are written."""
    for link in LINK.findall(page.read_text("utf-8")):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            yield path, anchor


def project_files() -> set[str]:
    """Paths of all that the project's folders hold, from its root."""
    below = (path for folder in (*SOURCES, "docs") for path in (ROOT / folder).rglob("*"))
    return {
        named(path)
        for path in (*ROOT.iterdir(), *below)
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{path}: no such file"
        assert target.is_relative_to(ROOT), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}: {sorted(anchors(target))}"


def test_every_page_is_in_the_index() -> None:
    listed = {(INDEX.parent / path).resolve() for path, _ in links(INDEX)}
    beside = {
        ROOT / name
        for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
        if (ROOT / name).exists()
    }
    assert {
        named(page) for page in ({*INDEX.parent.rglob("*.md")} | beside) - listed - {INDEX}
    } == set()


def test_the_readme_leads_to_the_index_and_is_short() -> None:
    assert ("docs/README.md", "") in links(README)
    assert len(README.read_text("utf-8").splitlines()) <= README_LINES


def test_readme_and_install_page_tell_the_same_commands() -> None:
    told = steps()
    assert steps(INSTALL) == told
    assert all(told[number] for number in range(1, 9))


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=named)
def test_a_decision_is_short_and_has_its_three_parts(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert len(text.splitlines()) <= DECISION_LINES


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_names_a_file_that_is_not_there(page: Path) -> None:
    there = project_files()
    for name in (span for span in SPAN.findall(page.read_text("utf-8")) if FILE.fullmatch(span)):
        if name not in STRANGERS and not name.startswith("/"):
            assert any(path == name or path.endswith(f"/{name}") for path in there), name


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_names_a_make_target_or_a_command_that_is_not_there(page: Path) -> None:
    text = page.read_text("utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = set(getattr(typer.main.get_command(app), "commands", ()))
    assert sorted(set(TARGET.findall(text)) - targets) == []
    assert sorted(set(COMMAND.findall(text)) - commands) == []


def test_nothing_in_the_project_names_a_page_that_is_not_there() -> None:
    """Hints of errors, comments and tables lead to pages by their path from the root."""
    texts = [
        path
        for name in project_files()
        if (path := ROOT / name).suffix in {".py", ".md", ".toml", ".sql", ".sh", ".json"}
    ]
    for path in (*texts, ROOT / "Makefile"):
        for page in PAGE.findall(path.read_text("utf-8")):
            assert (ROOT / page).exists(), f"{named(path)} names {page}"
