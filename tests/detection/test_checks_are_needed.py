"""The checks are tested, too: with any one of them disabled, or its comparison spoilt, some damage
goes unseen.

For each mutant one or a few of the tests that its check turned red in are run again, from the
record that ``make detection-table`` keeps. A check that caught nothing there fails here by its
name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pgdrill.checks import CHECKS, Outcome
from tests.detection.conftest import Mould
from tests.detection.recording import PROJECT, load, recorder

# tests in which a check was red without being asked for are no proof; the next one may be
TRIES = 4
# A session inside this one: the same process and mould, without what a second session would get in
# the way of.
OPTIONS = (
    "-q",
    "-o",
    "addopts=",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "-p",
    "no:timeout",
    "-p",
    "no:faulthandler",
    "-p",
    "no:warnings",
    "--capture=no",
)


@dataclass
class Mutant:
    """A plugin that spoils pgdrill while the bodies of tests run, and keeps how they ended."""

    spoilt: Callable[[], contextlib.AbstractContextManager[None]]
    outcomes: dict[str, str] = field(default_factory=dict)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None]:
        """The set-up is not spoilt: a test that cannot begin proves nothing."""
        with self.spoilt():
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """How set-up, body and tear-down ended."""
        self.outcomes[report.when or ""] = report.outcome


def is_seen(node: str, spoilt: Callable[[], contextlib.AbstractContextManager[None]]) -> bool:
    """Whether a test turns red with a spoilt pgdrill."""
    mutant = Mutant(spoilt)
    pytest.main([*OPTIONS, str(PROJECT / node)], plugins=[mutant])
    assert mutant.outcomes.get("setup") == "passed", (
        f"{node} could not be run: {mutant.outcomes}; run make detection-table"
    )
    return mutant.outcomes.get("call") == "failed"


def catching(check: str, words: str = "") -> list[str]:
    """The recorded tests in which a check was red (or warned): those that name it first, then the
    quick ones.
    """
    found = {
        node: it
        for node, it in load().items()
        if check in {**it.failed, **it.warned} and words in f"{node} {it.name}"
    }
    source = {
        file: (PROJECT / file).read_text() for file in {node.partition("::")[0] for node in found}
    }
    return sorted(
        found,
        key=lambda node: (
            f'"{check}"' not in source[node.partition("::")[0]],
            len(found[node].failed),
            found[node].seconds,
        ),
    )


@pytest.fixture(autouse=True)
def _one_mould(mould: Mould) -> Iterator[None]:
    recorder.shared = mould
    yield
    recorder.shared = None


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """pgdrill as if nobody had written that check."""
    whole = dict(CHECKS)
    del CHECKS[name]
    try:
        yield
    finally:
        CHECKS.clear()
        CHECKS.update(whole)


def assert_needed(
    nodes: list[str], what: str, spoilt: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    """Some test has to turn red."""
    assert nodes, (
        f"{what}: no detection test is red by it; write one, then run make detection-table"
    )
    assert any(is_seen(node, spoilt) for node in nodes[:TRIES]), (
        f"{what}: every one of these still passes: {nodes[:TRIES]}"
    )


@pytest.mark.parametrize("name", CHECKS)
def test_without_this_check_damage_goes_unseen(name: str) -> None:
    assert_needed(catching(name), f"without {name}", lambda: without(name))


def nothing(*_: object, **__: object) -> None:
    """A comparison that finds nothing."""


def all_well(table: str, *_: object, **__: object) -> Outcome:
    """A comparison that passes everything."""
    return Outcome("pass", table)


# What is spoilt, by what, and which damage has to go unseen: the check, and words of the test. The
# other rules of `compare` stand in for each other here, where every row is in the sample;
# tests/unit/checks/test_rows.py has them one by one.
SPOILT: dict[str, tuple[str, Any, str, str]] = {
    "rows: every table agrees": (
        "pgdrill.checks.tables:compare",
        all_well,
        "table-content",
        "a row deleted",
    ),
    "rows: numbers of rows are not compared": (
        "pgdrill.checks.tables:_number_of_rows",
        nothing,
        "table-content",
        "a row added",
    ),
    "rows: any digest agrees": (
        "pgdrill.checks.tables:agrees",
        lambda *_, **__: True,
        "table-content",
        "vectors scaled",
    ),
    "catalogs: no difference": (
        "pgdrill.checks.schema:differences",
        lambda *_: iter(()),
        "catalogs",
        "a policy dropped",
    ),
    "canary: every vector is the text's": (
        "pgdrill.checks.embeddings:off_target",
        lambda *_: [],
        "canary",
        "negated",
    ),
    "vectors: every column is as recorded": (
        "pgdrill.checks.vectors:_same_content",
        lambda look, *_: Outcome("pass", look.name),
        "vector-content",
        "changed at their places",
    ),
    "vectors: no neighbour is wrong": (
        "pgdrill.vectors.neighbour_comparison:Comparison.add",
        nothing,
        "exact-neighbours",
        "wrong neighbour",
    ),
    "vectors: any recall will do": (
        "pgdrill.checks.vectors:_recall",
        lambda look, *_: Outcome("pass", look.name),
        "index-recall",
        "damaged inside",
    ),
    "indexes: no row is missing": (
        "pgdrill.checks.index_coverage:_lacking",
        lambda *_: [],
        "index-coverage",
        "lacks",
    ),
    "integrity: an error is no finding": (
        "pgdrill.checks.integrity:_error",
        nothing,
        "amcheck",
        "flipped bit in a btree page (sign True)",
    ),
    "access methods: every search is right": (
        "pgdrill.checks.integrity:_searched",
        lambda *_, **__: (None, 1),
        "access-methods",
        "gist",
    ),
    "sequences: none is behind": (
        "pgdrill.checks.integrity:_behind",
        nothing,
        "sequences",
        "behind",
    ),
    "own SQL: every expectation holds": (
        "pgdrill.checks.custom_sql:Expectation.holds",
        lambda *_: True,
        "own-sql",
        "another tenant",
    ),
    "application: every exit code is good": (
        "pgdrill.checks.custom:_ended",
        lambda thing, *_: Outcome("pass", thing),
        "application-test",
        "without its data",
    ),
}


@contextlib.contextmanager
def spoilt(target: str, by: object) -> Iterator[None]:
    """pgdrill with one of its functions replaced, in a module or wherever a package has it."""
    module, _, path = target.partition(":")
    importlib.import_module(module)
    *parts, name = path.split(".")
    places: list[Any] = [
        found for key, found in sys.modules.items() if key == module or key.startswith(f"{module}.")
    ]
    owners = [
        functools.reduce(getattr, parts, place)
        for place in places
        if hasattr(place, (*parts, name)[0])
    ]
    assert owners, f"nothing is called {target} any more"
    with pytest.MonkeyPatch.context() as patch:
        for owner in owners:
            patch.setattr(owner, name, by)
        yield


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_comparison_is_seen(kind: str) -> None:
    target, by, check, words = SPOILT[kind]
    assert_needed(catching(check, words), kind, lambda: spoilt(target, by))


def test_a_runner_that_turns_failures_into_passes_is_seen() -> None:
    def run(self: Any, context: Any) -> Iterator[Any]:
        for result in heard(self, context):
            yield result.model_copy(update={"status": "pass"})

    from pgdrill.checks.base import Check

    heard = Check.run
    assert_needed(
        catching("catalogs", "a policy dropped"),
        "every answer a pass",
        lambda: spoilt("pgdrill.checks.base:Check.run", run),
    )


def test_an_unspoilt_run_of_the_same_tests_passes() -> None:
    """What the others prove, they prove by the mutant and not by being run here."""
    assert not is_seen(catching("table-content", "a row deleted")[0], contextlib.nullcontext)
