"""How long WAL takes to replay, by who fetches it: small segments, as ``archive_timeout`` makes
them.

Each competitor starts the same copy of the base with its own ``restore_command`` and is timed from
the server's start until it has promoted itself at the same restore point. All are cold: nothing is
fetched before the clock starts, pgdrill's process is not even started.

* ``pgdrill``: reads the repository ahead, comparing every 50th segment with the tool. ``by tool``:
  every segment by wal-g
  itself, as in an encrypted repository. ``barman's``: barman's layout.
* ``wal-g``, ``barman-cloud``: their own commands with their own defaults, the latter on fewer
  segments (it takes most of a
  second for each); compared by the segment. ``cp``: from a folder of whole segments.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable

import psutil

from bench.measuring import Meter, Run, in_turn
from bench.replay_stack import SEGMENT_BYTES, Replays, copied, prepared
from bench.rows import Group, Row, Size, growth, ratio
from pgdrill.access import Access
from pgdrill.postgres import sandbox_settings
from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.targets import RecoveryTarget
from pgdrill.recovery.wal_prefetch.client import WalAhead
from pgdrill.recovery.wal_prefetch.order import Order
from pgdrill.recovery.wal_prefetch.plan import order_for, wal_ahead
from pgdrill.recovery.workspace import Workspace
from pgdrill_demo.stack import binaries

FEW_FOR_BARMAN = 40
PGDRILL = "pgdrill"
BY_TOOL = "pgdrill by tool"
BARMANS = "pgdrill, barman's"
WALG = "wal-g"
BARMAN = "barman-cloud"
CP = "cp"
GOALS = ((PGDRILL, WALG, 0.35), (BARMANS, BARMAN, 0.08), (PGDRILL, CP, 1.5), (BY_TOOL, WALG, 0.8))
MOST_GROWTH = 1.1  # for each time more
Ordered = tuple[WalAhead, Order]
Make = Callable[[Workspace], Ordered]


def measure(size: Size) -> Group:
    """All in turn, and pgdrill with a tenth of the segments."""
    if not shutil.which("wal-g"):
        return Group("replay", {}, [], ["wal-g is not installed: replay is not measured"])
    many = size.segments[1]
    with prepared(many, min(FEW_FOR_BARMAN, many), max(1, many // 10)) as bench:
        tenth = f"pgdrill, {bench.marks['tenth'].segments} segments"
        runs = in_turn(
            {
                PGDRILL: lambda: replay(bench, "all", _ahead(bench, bench.access)),
                tenth: lambda: replay(bench, "tenth", _ahead(bench, bench.access)),
                BY_TOOL: lambda: replay(bench, "all", _by_tool(bench)),
                BARMANS: lambda: replay(bench, "all", _ahead(bench, bench.barman), bench.barman),
                WALG: lambda: replay(
                    bench,
                    "all",
                    " ".join((*bench.access.tool.wal_fetch()[:2], '"%f"', '"%p"')),
                    environment=_alone(bench, bench.access),
                ),
                BARMAN: lambda: replay(
                    bench,
                    "few",
                    _quoted(bench.barman.tool.wal_fetch()),
                    bench.barman,
                    _alone(bench, bench.barman),
                ),
                CP: lambda: replay(bench, "all", f'cp "{bench.plain}/%f" "%p"', environment={}),
            },
            size.rounds,
        )
    rows = [
        ratio(f"replay, {many} segments: {one} ÷ {other}", runs, one, other, goal)
        for one, other, goal in GOALS
    ]
    times = many / bench.marks["tenth"].segments
    rows.append(
        growth(
            f"replay, {times:.0f} x segments ÷ 1 x", runs[PGDRILL], runs[tenth], MOST_GROWTH * times
        )
    )
    rows.append(
        _flat(f"prefetcher's memory, {times:.0f} x segments ÷ 1 x", runs[PGDRILL], runs[tenth])
    )
    waited = sum(run.parts["waited"] for run in runs[PGDRILL]) / len(runs[PGDRILL])
    return Group(
        f"replay of {many} small segments, started cold",
        runs,
        rows,
        [f"recovery waited {waited:.2f} s for pgdrill's fetching"],
    )


def _flat(measure_: str, large: list[Run], small: list[Run]) -> Row:
    each = [a.own_peak_bytes / b.own_peak_bytes for a, b in zip(large, small, strict=True)]
    return Row(
        measure_,
        max(run.own_peak_bytes for run in large) / max(run.own_peak_bytes for run in small),
        min(each),
        max(each),
        MOST_GROWTH,
    )


def replay(
    bench: Replays,
    mark: str,
    fetch: str | Make,
    access: Access | None = None,
    environment: dict[str, str] | None = None,
) -> Run:
    """Start a copy of the base; ``fetch`` is a whole restore_command, or what makes pgdrill's."""
    access = access or bench.access
    with copied(bench, access) as workspace:
        point, control = bench.marks[mark], binaries().control_data(workspace.data_directory)
        ordered = None if isinstance(fetch, str) else fetch(workspace)
        values = sandbox_settings.settings(
            recovery=sandbox_settings.Recovery(
                ordered[0].restore_command if ordered else str(fetch),
                RecoveryTarget("name", point.name).settings,
                timeline="1",
            ),
            limits=control.limits,
            preload="",
            planned_with={},
            fast=False,
        )
        options = sandbox_settings.write(workspace.configuration, workspace.data_directory, values)
        server = LocalServer(
            binaries(),
            workspace.data_directory,
            workspace.socket_directory,
            workspace.log_file,
            options=options,
            environment=environment or {},
        )
        return _timed(bench, server, ordered, point.segments)


def _timed(bench: Replays, server: LocalServer, ordered: Ordered | None, segments: int) -> Run:
    ahead, order = ordered or (None, None)
    store = psutil.Process(bench.stack.s3.process.pid)  # type: ignore[union-attr]
    store_cpu, found = sum(store.cpu_times()[:2]), None
    try:
        with Meter() as meter:
            if ahead and order:
                ahead.start(order)
            launched = server.launch()
            server.wait_until(
                lambda: server.status() == "ready", "reaches the target", 900, launched
            )
            seconds = meter.elapsed
            found = ahead.finish() if ahead else None
            server.stop()
            launched.wait()
    finally:
        if ahead:
            ahead.stop()
    told = (
        {"waited": found.waited_seconds, "by tool": found.by_tool, "compared": found.compared}
        if found
        else {}
    )
    return meter.run(
        seconds, segments, {"store's CPU": sum(store.cpu_times()[:2]) - store_cpu, **told}
    )


def _ahead(bench: Replays, access: Access) -> Make:
    """As a drill does it, but cold."""
    return lambda workspace: (
        wal_ahead(access, workspace),
        order_for(access, workspace, bench.plan, SEGMENT_BYTES),
    )


def _by_tool(bench: Replays) -> Make:
    def make(workspace: Workspace) -> Ordered:
        ahead, order = _ahead(bench, bench.access)(workspace)
        return ahead, dataclasses.replace(order, readable=False)

    return make


def _alone(bench: Replays, access: Access) -> dict[str, str]:
    return {**access.tool.environment(), "HOME": str(bench.stack.home)}


def _quoted(words: tuple[str, ...]) -> str:
    return " ".join(f'"{word}"' if word.startswith("%") else word for word in words)
