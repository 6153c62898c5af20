"""docs/evidence/faults.md: what the full set came to, written by ``make faults`` as it goes
along."""

from __future__ import annotations

from collections.abc import Iterable

from tests.faults.cases import Found
from tests.kept import ROOT, Kept, Values

HEAD = """# Stores that go wrong, call by call

A proxy stands before a real S3 store. A job's calls are counted; \
then one call, and each like it after that, is answered with 503,
reset, left without an answer, cut in half, changed in its bytes, \
refused (with all that follow), said not to be there, or listed as nothing.
A case is wrong if something is reported as done and a look without the proxy does not find it, \
if a backup is blamed for a store that
does not answer, if anything kept is lost, if something is left running or lying about, \
or if it takes a minute longer than usual
(six for a prune, which starts the tool six times).
Written by `make faults`; `make test` draws ten cases by the commit's number.

| tool | job | fault | cases | done all the same | failed | could not verify | wrong | slowest, s |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def _columns(cases: list[Values]) -> Iterable[object]:
    ends = [end for end, _, _ in cases]
    wrong = sum(1 for *_, said in cases if said)
    return (
        len(cases),
        *(ends.count(end) for end in ("done", "failed", "could not verify")),
        wrong,
        max(seconds for _, seconds, _ in cases),
    )


TABLE = Kept(
    ROOT / "tests" / "faults" / "found.json",
    ROOT / "docs" / "evidence" / "faults.md",
    HEAD,
    by=3,
    columns=_columns,
)


def keep(found: Found) -> None:
    """Add a case."""
    case = found.case
    TABLE.keep(
        str(case), [case.tool, case.job, case.fault.how, found.end, found.seconds, found.wrong]
    )
