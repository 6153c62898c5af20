"""The registry of backup tools: what it says is what the adapters are, and is read quickly."""

from __future__ import annotations

import subprocess
import sys
from pkgutil import resolve_name

import pytest

from pgdrill.repository.tools import protocols
from pgdrill.repository.tools.failure import Failure
from pgdrill.tool_facts import DEFAULT_TOOL, TOOLS, ToolFacts, misfit

EACH = pytest.mark.parametrize("facts", TOOLS.values(), ids=str)


def test_the_default_is_registered() -> None:
    assert DEFAULT_TOOL in TOOLS


@EACH
def test_the_adapter_it_names_is_a_backup_tool(facts: ToolFacts) -> None:
    adapter = resolve_name(facts.adapter)
    assert adapter.facts is facts
    assert adapter.name == facts.name
    wanted = {
        name
        for protocol in protocols.BackupTool.__mro__
        for name in (*vars(protocol), *getattr(protocol, "__annotations__", {}))
        if not name.startswith("_")
    }
    assert {name for name in wanted if not hasattr(adapter, name)} == set()


@EACH
def test_what_only_it_says_is_a_table_of_failures(facts: ToolFacts) -> None:
    rows = resolve_name(facts.failures) if facts.failures else ()
    assert all(isinstance(row, Failure) and row.hint for row in rows)


@EACH
def test_its_default_compression_and_its_urls_fit_it(facts: ToolFacts) -> None:
    for scheme in facts.url_schemes:
        assert misfit(facts.name, f"{scheme}://place/x", facts.default_compression) == ""
    assert facts.name in misfit(facts.name, "gopher://place", "")
    assert "choose" in misfit(facts.name, f"{facts.url_schemes[0]}://place", "rot13")


def test_reading_it_imports_no_adapter() -> None:
    code = (
        "import sys, pgdrill.tool_facts;"
        "print([name for name in sys.modules if name.startswith('pgdrill.repository')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
