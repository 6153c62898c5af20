"""Writes the pages of docs/reference/ that are made from the program itself: ``make reference``.

cli.md comes from the commands, configuration.md from the models of dr.toml, checks.md and the table
of doctor.md from what is registered. tests/unit/test_reference.py holds the pages to it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
import typing
from collections.abc import Collection, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from pgdrill import version
from pgdrill.alert_settings import AlertChannel, AlertPing, Alerts
from pgdrill.cli import app
from pgdrill.config import Cluster
from pgdrill.queue_settings import Queue
from pgdrill.section import Section
from pgdrill.watch_settings import Watch

PROJECT = Path(__file__).parents[1]
PAGES = PROJECT / "docs" / "reference"
FIRST_TABLE = "### Configuration\n"  # of doctor.md; what stands before it is written by hand
WORDS = {
    str: "text",
    bool: "true or false",
    int: "whole number",
    float: "number",
    Path: "path",
    date: "date",
}
LIMITS = (
    (Ge, "ge", "at least"),
    (Gt, "gt", "more than"),
    (Le, "le", "at most"),
    (Lt, "lt", "less than"),
)
CONFIGURATION = """\
# The configuration

Made by `make reference` from the models, of pgdrill {version}. \
One file, `dr.toml`: named by `--config` or `PGDRILL_CONFIG`,
else `include/dr.toml` of `AIRFLOW_HOME` or of the project. \
`pgdrill init` writes a first one, `pgdrill config check` says
whether it is right and what was understood, \
and `include/dr.toml` is an example with every key and a comment.

Each protected cluster has tables of its own, below its name (lower-case letters, digits, `_`). \
Who is told \
when something is wrong stands below `[alerts]`. Unknown keys are refused.
Times of day are UTC, spans are seconds, sizes are bytes. \
Secrets never stand here: they come from Airflow's Connections or from
the environment.
"""


def pages() -> dict[Path, str]:
    """Give each page's text."""
    doctor = PAGES / "doctor.md"
    by_hand = doctor.read_text("utf-8").partition(FIRST_TABLE)[0]
    return {
        PAGES / "cli.md": cli(),
        PAGES / "configuration.md": configuration(),
        PAGES / "checks.md": _printed("pgdrill", "checks", "--markdown"),
        PAGES / "health-checks.md": _printed("pgdrill", "checks", "--health", "--markdown"),
        doctor: by_hand + _printed("pgdrill", "doctor", "--markdown"),
    }


def _printed(*words: str) -> str:
    """Give what a module prints as a program, in a terminal's usual width."""
    environment = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        encoding="utf-8",
        check=True,
        cwd=PROJECT,
        env=environment,
    )
    return done.stdout


# --- The commands ---


def cli() -> str:
    """Give typer's own page of the commands, with each first sentence whole."""
    text = _printed(
        "typer", "pgdrill.cli", "utils", "docs", "--name", "pgdrill", "--title", "The commands"
    )
    for name, found in _commands(typer.main.get_command(app)):
        text = text.replace(
            f"* `{name}`: {found.get_short_help_str()}\n",
            f"* `{name}`: {found.get_short_help_str(1000)}\n",
        )
    title, _, rest = text.strip("\n").partition("\n")
    return f"{title}\n\nMade by `make reference`, of pgdrill {version()}.\n{rest}\n"


def _commands(group: Any) -> Iterator[tuple[str, Any]]:
    for name, found in getattr(group, "commands", {}).items():
        yield name, found
        yield from _commands(found)


# --- The configuration ---


def configuration() -> str:
    """Give a table of keys for each table of the file."""
    sections = {
        name: (found, many)
        for name, field in Cluster.model_fields.items()
        if not field.exclude
        for found, many in _section(field)
    }
    lines = [CONFIGURATION.format(version=version())]
    lines += _table("[clusters.NAME]", Cluster, leave_out=set(sections))
    for name, (model, many) in sections.items():
        head = f"clusters.NAME.{name}"
        lines += _table(f"[[{head}]]" if many else f"[{head}]", model)
    lines += _table("[watch]", Watch)
    channels = {"channels": AlertChannel, "pings": AlertPing}
    lines += _table("[queues.NAME]", Queue)
    lines += _table("[alerts]", Alerts, leave_out=set(channels))
    for name, table in channels.items():
        lines += _table(f"[[alerts.{name}]]", table)
    return "\n".join(lines) + "\n"


def _section(field: FieldInfo) -> Iterator[tuple[type[Section], bool]]:
    """The model of a key that is a table of its own, and whether there may be several."""
    for many, kinds in ((False, (field.annotation,)), (True, get_args(field.annotation))):
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, Section):
                yield kind, many


def _table(head: str, model: type[Section], leave_out: Collection[str] = ()) -> list[str]:
    lines = ["", f"## `{head}`", "", " ".join((model.__doc__ or "").split()), ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if name in leave_out or field.exclude:
            continue
        cells = (f"`{name}`", _type(field), _default(field), field.description or "")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def _type(field: FieldInfo) -> str:
    limits = [
        f"{words} {_number(getattr(one, name))}"
        for one in field.metadata
        for kind, name, words in LIMITS
        if isinstance(one, kind)
    ]
    return ", ".join([_kind(field.annotation), *limits])


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{_toml(one)}`" for one in arguments)
    if origin in (typing.Union, types.UnionType):
        return _kind(next(one for one in arguments if one is not type(None)))
    if origin is tuple:
        return f"list of {_kind(arguments[0])}s"
    if origin is dict:
        return f"table of {_kind(arguments[0])} to {_kind(arguments[1])}"
    return WORDS[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    return "none" if field.default is None else f"`{_toml(field.default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, (tuple, dict)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return json.dumps(value if isinstance(value, bool) else str(value), ensure_ascii=False)
    return _number(value)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def main() -> None:
    """Write what changed, and name it."""
    for page, text in pages().items():
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")
            print(f"written: {page.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
