"""A restored cluster to damage: each test gets a copy that was proved clean, and a baseline to
compare it with.

One real drill is kept; its data directory, stopped, is the mould of every copy.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from pgdrill.backup import take_backup
from pgdrill.baseline import Baseline
from pgdrill.baseline.heartbeat import beat
from pgdrill.checks import FAMILIES, Context, run_checks
from pgdrill.checks.runner import checking, settled
from pgdrill.drill import drill
from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill.reports.model import CheckResult
from pgdrill_demo.stack import DATABASE, Stack, preferred_tool
from tests.copies import server_on_copy
from tests.detection.recording import Notes, as_property, recorder

STATEMENT_SECONDS = 60.0
STATE_TABLES = ["hc_agent_state", "re_plans"]


notes = Notes()
recorder.listen()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Proving the copy clean is no part of what the test finds."""
    recorder.begin()
    try:
        return (yield)
    finally:
        recorder.damage_begins()
        item.user_properties.append(as_property(recorder.caught(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Note what was red in the test's body."""
    try:
        return (yield)
    finally:
        item.user_properties[:] = [as_property(recorder.caught(item))]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """With xdist: in the controller, too, where they come together."""
    notes.add(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table if it is wanted."""
    if not hasattr(session.config, "workerinput"):
        notes.write()


@dataclass
class Mould:
    """What every copy is made from."""

    folder: Path
    stack: Stack
    baseline: Baseline
    idle: list[Path] = field(default_factory=list)  # folders of earlier copies


@dataclass
class Copy:
    """A restored cluster of its own."""

    server: LocalServer
    mould: Mould
    started: bool = field(default=False)

    @property
    def data(self) -> Path:
        return self.server.data_directory

    @property
    def configuration(self) -> Path:
        """The folder of its configuration files."""
        return Path(self.server.options["hba_file"]).parent

    def sql(self, *statements: str) -> None:
        """Damage by statements, as a superuser; policies, triggers and the like are whatever they
        are.
        """
        with psycopg.connect(self.server.conninfo(DATABASE), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def one(self, query: str) -> object:
        with psycopg.connect(self.server.conninfo(DATABASE), autocommit=True) as connection:
            row = connection.execute(query).fetchone()
            return row[0] if row else None

    def stopped(self, change: Callable[[Path], None]) -> None:
        """Damage files of the stopped server, then start it again."""
        self.server.stop()
        change(self.data)
        self.server.start()

    def results(self, *families: str, baseline: Baseline | None = None) -> list[CheckResult]:
        """Ask the checks, with another baseline if one is given."""
        context = Context(
            cluster=self.mould.stack.cluster,
            connect=checking(
                lambda name: self.server.connect(name, autocommit=False), STATEMENT_SECONDS
            ),
            databases=(DATABASE,),
            baseline=baseline or self.mould.baseline.model_copy(deep=True),
            settle=lambda: True,
        )
        return list(run_checks(context, families or FAMILIES))

    def red(self, *families: str, baseline: Baseline | None = None) -> dict[str, list[str]]:
        """The failing checks, each with the things it names."""
        found: dict[str, list[str]] = {}
        for result in self.results(*families, baseline=baseline):
            if result.status == "fail":
                found.setdefault(result.name, []).append(
                    f"{result.thing} {result.value} {result.message}"
                )
        return found


@pytest.fixture(scope="session")
def mould() -> Iterator[Mould]:
    if recorder.shared:
        yield recorder.shared
        return
    # Of the small sample, so many canaries are every row: what is damaged is found for certain.
    stack = Stack(
        Path(tempfile.mkdtemp(prefix="pgdrill-")),
        tool=preferred_tool(),
        canary_rows=1000,
        drill={"state_tables": STATE_TABLES},
    )
    try:
        stack.create(scale=0.05)
        stack.start()
        take_backup(stack.access)
        beat(stack.access)
        report = drill(stack.access, keep=True)
        assert report.verdict == "passed", [r for r in report.results if r.status != "pass"]
        baseline = store.load_baseline(stack.access, report.drill_id)
        assert baseline is not None
        assert settled(stack.access, baseline)
        workspace = Workspace.of(stack.access, report.drill_id)
        workspace.server(stack.access).stop()
        yield Mould(workspace.data_directory, stack, baseline)
    finally:
        stack.remove()


@pytest.fixture
def copy(mould: Mould, request: pytest.FixtureRequest) -> Iterator[Copy]:
    """A running copy, proved clean by the families that the module is about (``FAMILIES``)."""
    with copied(mould, getattr(request.module, "FAMILIES", ())) as made:
        yield made


@contextlib.contextmanager
def copied(mould: Mould, families: Sequence[str]) -> Iterator[Copy]:
    """A running copy, proved clean. Its folder serves the next one."""
    with server_on_copy(mould.folder, mould.stack, mould.idle) as server:
        server.start()
        made = Copy(server, mould)
        if not recorder.shared:  # proved in the test's own session
            assert made.red(*families) == {}, "the copy is not clean before it is damaged"
        yield made
