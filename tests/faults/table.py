"""docs/faults.md: what the full set came to, written by ``make faults`` as it goes along."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.conftest import thorough
from tests.faults.cases import Found

ROOT = Path(__file__).parents[2]
FOUND, TABLE = ROOT / "tests" / "faults" / "found.json", ROOT / "docs" / "faults.md"
HEAD = """# Stores that go wrong, call by call

A proxy stands before a real S3 store. A job's calls are counted; then one call, and each like it after that, is answered with 503,
reset, left without an answer, cut in half, changed in its bytes, refused (with all that follow), said not to be there, or listed as nothing.
A case is wrong if something is reported as done and a look without the proxy does not find it, if a backup is blamed for a store that
does not answer, if anything kept is lost, if something is left running or lying about, or if it takes a minute longer than usual.
Written by `make faults`; `make test` draws ten cases by the commit's number.

| tool | job | fault | cases | done all the same | failed | could not verify | wrong | slowest, s |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def known() -> dict[str, Any]:
    """The cases of the full set that were tried and were not wrong."""
    every = json.loads(FOUND.read_text()) if thorough() and FOUND.exists() else {}
    return {case: found for case, found in every.items() if not found[-1]}


def keep(found: Found) -> None:
    """Add a case, and write the table anew."""
    if not thorough():
        return
    every = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    every[str(found.case)] = [found.case.tool, found.case.job, found.case.fault.how, found.end, found.seconds, found.wrong]
    FOUND.write_text(json.dumps(dict(sorted(every.items())), indent=0) + "\n")
    TABLE.write_text(HEAD + "".join(_rows(every)))


def _rows(every: dict[str, list]) -> list[str]:  # type: ignore[type-arg]
    groups: dict[tuple[str, str, str], list[list]] = defaultdict(list)  # type: ignore[type-arg]
    for tool, job, how, *rest in every.values():
        groups[tool, job, how].append(rest)
    rows = []
    for key, cases in sorted(groups.items()):
        ends = [end for end, _, _ in cases]
        wrong = sum(1 for *_, said in cases if said)
        counts = [len(cases), *(ends.count(end) for end in ("done", "failed", "could not verify")), wrong, max(seconds for _, seconds, _ in cases)]
        rows.append(f"| {' | '.join((*key, *map(str, counts)))} |\n")
    return rows
