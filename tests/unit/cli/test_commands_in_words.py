"""Every command that a page shows, or that an error's hint tells somebody to type, is taken by
today's `pgdrill`: command, options and number of words.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pgdrill.cli import app
from pgdrill.cli.groups import RENAMED

ROOT = Path(__file__).parents[3]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - {ROOT / "CHANGELOG.md"})
SOURCES = sorted(path for folder in ("include", "dags") for path in (ROOT / folder).rglob("*.py"))
LINE = re.compile(r"^ {4,}(?:\$ )?(pgdrill (?:.*\\\n)*.*)$", re.MULTILINE)
# a command's own words: until something that only a shell or a reader understands
COMMAND = re.compile(r"(?:^|; |-- )pgdrill ([a-z][^|><&;]*)")
FILLED = "1"  # stands for what is known when the words are said
USAGE = typer.BadParameter.__bases__[0]  # of the click that typer brings


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def said(node: ast.expr) -> str:
    """A text of the source, with a word for each value that is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(said(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else FILLED


def commands_of(text: str, *, page: bool) -> Iterator[str]:
    """What follows `pgdrill` in each command of a text."""
    plain = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL) if page else text
    plain = re.sub(r"^ {4,}\S.*$", "", plain, flags=re.MULTILINE) if page else plain
    shown = [
        " ".join(span.split())
        for paragraph in re.split(r"\n\s*\n|\n[-|]", plain.replace("``", "`"))
        for span in paragraph.split("`")[1::2]
    ]
    if page:
        shown += [found.replace("\\\n", " ") for found in LINE.findall(text)]
    for one in shown:
        for command in COMMAND.findall(one):
            yield command.partition(" # ")[0].replace("…", FILLED).strip()


def commands_in(path: Path) -> Iterator[str]:
    """All commands that a page or a module's texts name."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        yield from commands_of(text, page=True)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        ):
            yield from commands_of(said(node), page=False)


def trouble(words: str) -> str:
    """Why today's program does not take it, or nothing."""
    command: Any = typer.main.get_command(app)
    rest = shlex.split(re.sub(r"[\[\]]", "", words))
    while hasattr(command, "commands"):
        if not rest or rest[0] == FILLED:
            return ""
        if rest[0] not in command.commands or tuple(rest[:2]) in RENAMED:
            return f"no command {' '.join(rest[:2])}"
        command, rest = command.commands[rest[0]], rest[1:]
    try:
        given, rest, _ = command.make_parser(command.context_class(command)).parse_args(rest)
    except USAGE as error:  # an option that is spoken of without its value is no trouble
        said = str(error.format_message())
        return "" if "requires an argument" in said else said
    if old := [one.opts[0] for one in command.params if one.hidden and given.get(one.name)]:
        return f"old words: {', '.join(old)}"
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    too_many = len(rest) > len(arguments) and all(one.nargs == 1 for one in arguments)
    return f"too many words: {rest}" if too_many else ""


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_names_commands_and_options_that_are_there(page: Path) -> None:
    wrong = {words: why for words in commands_in(page) if (why := trouble(words))}
    assert not wrong


def test_the_words_of_the_program_name_commands_and_options_that_are_there() -> None:
    wrong = {
        f"{named(path)}: {words}": why
        for path in SOURCES
        for words in commands_in(path)
        if (why := trouble(words))
    }
    assert not wrong


def test_a_command_that_is_gone_is_seen() -> None:
    assert trouble("drill agents --dump LATEST") == ""
    assert "--from" in trouble("drill --from dump --backup LATEST")
    assert "no command" in trouble("verfiy agents")
    assert "No such option" in trouble("backup agents --nowhere")
    assert "too many words" in trouble("config check agents more than it takes")
    assert list(
        commands_of("run `runuser -u postgres -- pgdrill backup agents | tee`", page=False)
    ) == ["backup agents"]
