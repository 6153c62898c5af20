"""Your own SQL checks: ``*.sql`` files with what to expect in a header.

They are read here, and asked in :mod:`pgdrill.checks.custom`.

::

    -- name: orders-have-lines
    -- expect: no rows
    SELECT id FROM orders o WHERE NOT EXISTS (SELECT FROM order_lines l WHERE l.order_id = o.id)

A header line is ``-- key: value`` with a key in lower case; other comments are prose. Reading is
strict, because a key that is misread, or stands where nobody looks, would make a check that asks
something else than its author meant.
"""

from __future__ import annotations

import difflib
import logging
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from pgdrill.config import Cluster
from pgdrill.documents import StrictModel
from pgdrill.errors import ConfigError

logger = logging.getLogger(__name__)

KEY = re.compile(r"--\s*([a-z][a-z_-]*)\s*:\s*(.*?)\s*")
NUMBER = r"(-?\d+(?:\.\d+)?)"
COMPARISON = re.compile(rf"(=|!=|<=|<|>=|>)\s*{NUMBER}")
BETWEEN = re.compile(rf"between\s+{NUMBER}\s+and\s+{NUMBER}")
SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min)")
SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0}
ALLOWED = {
    "name": "lower-case letters, digits and -, at most 63, a different one in each file",
    "database": "the name of a checked database",
    "expect": (
        "no rows | rows | = N | != N | < N | <= N | > N | >= N | between A and B (one number is"
        " then compared)"
    ),
    "severity": "fail | warn",
    "timeout": "a time such as 500 ms, 30 s or 2 min",
    "hint": "one line of text",
}
WAS_HINT = "mend"  # the name of the key before 0.2


@dataclass(frozen=True, slots=True)
class Expectation:
    """The answer that a check expects: a number of rows, or a comparison with one number."""

    words: str
    operator: str = ""  # empty where rows are counted and no number is compared
    low: Decimal = Decimal(0)
    high: Decimal = Decimal(0)

    @property
    def counts_rows(self) -> bool:
        """True if only the number of rows matters."""
        return not self.operator

    def holds(self, value: int | Decimal) -> bool:
        """Return True if the number of rows, or the one number, is as expected."""
        match self.operator:
            case "":
                return (value == 0) if self.words == "no rows" else value > 0
            case "between":
                return self.low <= value <= self.high
            case "=" | "!=":
                return (value == self.low) is (self.operator == "=")
            case "<" | "<=":
                return value < self.low or (self.operator == "<=" and value == self.low)
        return value > self.low or (self.operator == ">=" and value == self.low)


def _expectation(text: str) -> Expectation:
    words = " ".join(text.split())
    if words in ("no rows", "rows"):
        return Expectation(words)
    if found := COMPARISON.fullmatch(words):
        return Expectation(f"{found[1]} {found[2]}", found[1], Decimal(found[2]))
    if (found := BETWEEN.fullmatch(words)) and Decimal(found[1]) <= Decimal(found[2]):
        return Expectation(words, "between", Decimal(found[1]), Decimal(found[2]))
    raise ValueError(words)


def _seconds(text: str) -> float:
    found = SPAN.fullmatch(text)
    if not found or float(found[1]) == 0:
        raise ValueError(text)
    return float(found[1]) * SECONDS[found[2]]


class SqlCheck(StrictModel):
    """One file with its statement and what its header says."""

    file: Path
    statement: str
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    expect: Annotated[Expectation, BeforeValidator(_expectation)]
    database: str = Field("", pattern=r"^\S+$")
    severity: Literal["fail", "warn"] = "fail"
    # in seconds; None: as long as any statement of a check may take
    timeout: Annotated[float | None, BeforeValidator(_seconds)] = None
    hint: str = Field("", min_length=1)


def parse_file(file: Path) -> SqlCheck:
    """Read a file. An error names the line and what is allowed there."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _error(f"{file}", f"unreadable ({error})", "a text file in UTF-8") from None
    start = next(
        (n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("--")),
        None,
    )
    if start is None:
        raise _error(f"{file}", "no statement", "a header and one SQL statement that reads")
    header = _read_header(file, lines, start)
    try:
        return SqlCheck(
            file=file,
            statement="\n".join(lines[start:]),
            **{key: entry.value for key, entry in header.items()},
        )
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        if key not in header:
            raise _error(f"{file}", f"no {key}", f"a line `-- {key}: …`, {ALLOWED[key]}") from None
        wrong = header[key]
        raise _error(
            f"{file}, line {wrong.number}", f"{key}: {wrong.value}", ALLOWED[key]
        ) from None


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a key of the header says, and the number of its line."""

    value: Any
    number: int


def _read_header(file: Path, lines: list[str], start: int) -> dict[str, _Entry]:
    """The header's entries by their keys; ``start`` is the index of the statement's first line.

    A key that stands below is an error, but only of those that there are: others are prose.
    """
    header: dict[str, _Entry] = {}
    for number, line in enumerate(lines, 1):
        found = KEY.fullmatch(line.strip())
        if not found or (number > start and found[1] not in (*ALLOWED, WAS_HINT)):
            continue
        key, thing = found[1], f"{file}, line {number}"
        if key == WAS_HINT:
            logger.warning("%s: the key mend is called hint now", thing)
            key = "hint"
        if key not in ALLOWED:
            near = difflib.get_close_matches(key, ALLOWED, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise _error(thing, f"unknown key {key!r}{hint}", f"one of {', '.join(ALLOWED)}")
        if key in header:
            raise _error(thing, f"{key} for the second time", f"once (line {header[key].number})")
        if number > start:
            raise _error(
                thing, f"{key} after the statement has begun", "every key above the statement"
            )
        header[key] = _Entry(found[2], number)
    return header


def read_checks(cluster: Cluster) -> tuple[list[SqlCheck], list[ConfigError]]:
    """Return the cluster's files by name, and what is wrong with those that cannot be asked.

    A folder that nobody named need not be there; one that somebody named has to be.
    """
    folder = cluster.home / cluster.checks_directory
    if not folder.is_dir():
        named = "checks_directory" in cluster.model_fields_set
        return [], (
            [
                _error(
                    f"checks_directory of cluster {cluster.name}", f"no folder {folder}", "a folder"
                )
            ]
            if named
            else []
        )
    good: dict[str, SqlCheck] = {}
    errors: list[ConfigError] = []
    for file in sorted(folder.glob("*.sql")):
        try:
            made = parse_file(file)
            if made.name in good:
                raise _error(
                    f"{file}",
                    f"the name {made.name} of {good[made.name].file.name}",
                    ALLOWED["name"],
                )
            good[made.name] = made
        except ConfigError as error:
            errors.append(error)
    return list(good.values()), errors


def _error(thing: str, found: str, expected: str) -> ConfigError:
    return ConfigError(
        "bad-sql-check",
        thing,
        found=found,
        expected=expected,
        hint="correct it; `pgdrill config check` says whether it can be asked",
    )
