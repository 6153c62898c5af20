"""Real servers, real tools, a real S3 store: one stack a tool for the whole session."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill_demo.stack import Stack, preferred_tool
from tests.conftest import TOOLS, need


def _running_stack(tool: str, scale: float = 0.1) -> Iterator[Stack]:
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=tool)
    try:
        stack.create(scale=scale)
        stack.start()
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack with the tool a user here would get; shared, so leave it as it was."""
    yield from _running_stack(preferred_tool())


@pytest.fixture(scope="session", params=TOOLS)
def tool_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A stack for each tool that is installed."""
    yield from _running_stack(need(request.param))


@pytest.fixture
def empty_database(stack: Stack) -> Iterator[str]:
    """A superuser's connection string to a new, empty database."""
    with stack.connect("postgres") as connection:
        connection.execute("CREATE DATABASE scratch")
    try:
        yield stack.conninfo(database="scratch")
    finally:
        with stack.connect("postgres") as connection:
            connection.execute("DROP DATABASE scratch WITH (FORCE)")


@pytest.fixture
def copied_repository(stack: Stack) -> Iterator[Path]:
    """The stack's repository folder, put back as it was afterwards."""
    folder = stack.s3.folder / stack.s3.bucket
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    yield folder
    shutil.rmtree(folder)
    kept.rename(folder)
