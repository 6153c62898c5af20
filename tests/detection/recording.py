"""Which check caught which damage: noted while the detection tests run, and made into
docs/evidence/detection.md.

A damage is a test in which a check turned red. Every answer that a check gives while a test runs is
seen, however the test asked for it, so a new test joins by itself. ``make detection-table`` writes
what was seen.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pgdrill.checks import Context
from pgdrill.checks.base import Check
from pgdrill.reports.model import CheckResult

PROJECT = Path(__file__).parents[2]
CAUGHT = PROJECT / "tests" / "detection" / "caught.json"
TABLE = PROJECT / "docs" / "evidence" / "detection.md"
VARIABLE = "PGDRILL_DETECTION_TABLE"
# as many drills as somebody asks for, and nothing to catch
UNDAMAGED = "tests/detection/test_healthy.py"
PROPERTY = "caught"


@dataclass
class Caught:
    """What a test saw: the red checks and the new warnings, each with the seconds it took."""

    name: str
    about: str
    failed: dict[str, float] = field(default_factory=dict)
    warned: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    skipped: bool = False


@dataclass
class Recorder:
    """Listens to every check of this process.

    ``shared`` is a mould that outlives a session, see the mutants.
    """

    answers: list[CheckResult] = field(default_factory=list)
    before: set[tuple[str, str]] = field(default_factory=set)
    shared: Any = None
    listening: bool = False

    def listen(self) -> None:
        """Put an ear to the one place that every answer passes; once, for pytest imports a conftest
        under two names.
        """
        if self.listening:
            return
        self.listening, run = True, Check.run

        def heard(check: Check, context: Context) -> Iterator[CheckResult]:
            for result in run(check, context):
                self.answers.append(result)
                yield result

        Check.run = heard  # type: ignore[method-assign]

    def begin(self) -> None:
        """Forget what was heard before a test's set-up."""
        self.answers.clear()

    def damage_begins(self) -> None:
        """What the undamaged copy warned of is not caught by the test."""
        self.before = {(r.name, r.thing) for r in self.answers if r.status == "warn"}
        self.answers.clear()

    def caught(self, item: pytest.Item) -> Caught:
        """What was heard in a test's body."""
        found = Caught(name_of(item), about(item))
        for result in self.answers:
            into = {"fail": found.failed, "warn": found.warned}.get(result.status)
            if into is not None and (
                result.status == "fail" or (result.name, result.thing) not in self.before
            ):
                into[result.name] = round(into.get(result.name, 0.0) + result.seconds, 3)
        return found


recorder = Recorder()


def name_of(item: pytest.Item) -> str:
    """A damage's name: its key in the module's DAMAGES, or the test's own sentence with its
    parameters.
    """
    call = getattr(item, "callspec", None)
    if call and call.id in getattr(getattr(item, "module", None), "DAMAGES", {}):
        return str(call.id)
    words = getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " ")
    if not call:
        return words
    plain = all(isinstance(value, bool | int | float | None) for value in call.params.values())
    return (
        f"{words} ("
        f"{', '.join(f'{key} {value}' for key, value in call.params.items()) if plain else call.id}"
        ")"
    )


def about(item: pytest.Item) -> str:
    """The first sentence of the test's module."""
    return (getattr(getattr(item, "module", None), "__doc__", "") or "").strip().partition("\n")[0]


@dataclass
class Notes:
    """The tests of a whole session, gathered where its reports come together (also with xdist)."""

    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, report: pytest.TestReport) -> None:
        """Keep what a passed or skipped test handed over."""
        wanted = (
            report.passed if report.when == "call" else report.when == "setup" and report.skipped
        )
        for name, value in report.user_properties:
            if name == PROPERTY and wanted and not report.nodeid.startswith(UNDAMAGED):
                self.found[report.nodeid] = {
                    **value,
                    "seconds": round(report.duration, 2),
                    "skipped": bool(report.skipped),
                }

    def write(self) -> None:
        """Into what is there already: single files may be run alone, and lose what they no longer
        have.
        """
        if not os.environ.get(VARIABLE):
            return
        again = {node.partition("::")[0] for node in self.found}
        before = json.loads(CAUGHT.read_text()) if CAUGHT.exists() else {}
        known = {
            node: value for node, value in before.items() if node.partition("::")[0] not in again
        }
        together = dict(sorted({**known, **self.found}.items()))
        CAUGHT.write_text(json.dumps(together, indent=1) + "\n")
        TABLE.write_text(table({node: Caught(**value) for node, value in together.items()}))


def as_property(found: Caught) -> tuple[str, dict[str, Any]]:
    """As handed on by a test's report."""
    return PROPERTY, asdict(found)


def load() -> dict[str, Caught]:
    """The committed record, by the tests' node ids."""
    return {node: Caught(**value) for node, value in json.loads(CAUGHT.read_text()).items()}


def table(found: dict[str, Caught]) -> str:
    """docs/evidence/detection.md."""
    damages = [it for it in found.values() if it.failed or it.warned]
    checks = Counter(name for it in damages for name in {**it.failed, **it.warned})
    lines = [
        "# What is caught, by which check, in what time",
        "",
        (
            "Generated by `make detection-table` from a run of `tests/detection`. Each line is a"
            " test: a restored cluster is proved clean,"
        ),
        (
            "damaged in this one way, and asked again. Seconds are those of the named check on the"
            " small sample of the tests. A check in"
        ),
        (
            "brackets warned; the others failed. Nothing is left out: the tests in which nothing"
            " may be found stand at the end."
        ),
        "",
        f"{len(damages)} damages, caught by {len(checks)} checks.",
        "",
    ]
    for module in dict.fromkeys(node.partition("::")[0] for node in found):
        rows = [
            it
            for node, it in found.items()
            if node.startswith(f"{module}::") and (it.failed or it.warned)
        ]
        if rows:
            title = module.rpartition("test_")[2].removesuffix(".py").replace("_", " ")
            lines += [
                f"## {title.capitalize()}",
                "",
                rows[0].about,
                "",
                "| damage | caught by | seconds |",
                "| --- | --- | --- |",
            ]
            lines += [_row(it) for it in rows]
            lines.append("")
    healthy = [it for it in found.values() if not (it.failed or it.warned)]
    lines += ["## Nothing to be found, and nothing red", ""]
    lines += [
        f"- {_cell(it.name)}{' (skipped in that run)' if it.skipped else ''}" for it in healthy
    ]
    return "\n".join(lines) + "\n"


def _row(it: Caught) -> str:
    warned = {name: seconds for name, seconds in it.warned.items() if name not in it.failed}
    names = [*it.failed, *(f"({name})" for name in warned)]
    seconds = [f"{value:.2f}" for value in (*it.failed.values(), *warned.values())]
    return f"| {_cell(it.name)} | {', '.join(names)} | {', '.join(seconds)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
