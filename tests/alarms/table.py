"""docs/evidence/alerts.md: which message came of which harm, and after how long; written by
``make alarms`` as it goes along.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.kept import ROOT, Kept, Values

HEAD = """# Which alert comes of what, and when

A real primary with a standby, a real S3 and `pgdrill watch` as a process of its own, \
which looks every 5 s and writes a heartbeat every
5 s; the messages are received by a server that speaks the webhook's protocol. \
Each harm is done, told, mended and over. *After* is from
the harm to the message; *over after* from the mend to the message of the end. \
Every alert began once and ended once. Written by
`make alarms`, whose machine was busy if it says so below.

| harm | alert | severity | channel | after, s | over after, s | begun | ended | told besides |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def _columns(cases: list[Values]) -> Iterable[object]:
    (found,) = cases
    return found[1:]


TABLE = Kept(
    ROOT / "tests" / "alarms" / "found.json",
    ROOT / "docs" / "evidence" / "alerts.md",
    HEAD,
    by=1,
    columns=_columns,
)
