"""The hold on a drill's cluster and folder.

This process holds them while a stage runs, a lease between stages, and a promise when they are
kept.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from pgdrill.access import Access
from pgdrill.errors import CouldNotVerify
from pgdrill.host.core_dumps import no_core_files
from pgdrill.host.lock import ClusterLock, Lease, this_process
from pgdrill.recovery.workspace import Workspace


def drill_lock(access: Access) -> ClusterLock:
    """Return the lock that lets one drill at a time run for a cluster, of backups and of dumps."""
    return ClusterLock(access.cluster.state_directory / "drill.lock")


def ends_at(access: Access, started_at: datetime) -> float:
    """Return when a drill's time is over (seconds since the epoch)."""
    return started_at.timestamp() + access.cluster.drill.timeout_seconds


@contextlib.contextmanager
def holding(
    access: Access, workspace: Workspace, end: float, *, hand_over: bool = False
) -> Iterator[Lease | None]:
    """Hold the cluster while a stage of a drill runs.

    Yields the lease of a dead drill that was taken over, or None.

    With ``hand_over`` nobody owns the drill afterwards: whoever goes on has to come within
    ``drill.handover_seconds``.
    """
    no_core_files()
    owner = this_process()
    with drill_lock(access).hold(
        Lease(workspace.directory.name, str(workspace.directory), end, owner)
    ) as stale:
        try:
            yield stale
        finally:
            if hand_over and (lease := workspace.lease) and lease.owner == owner:
                workspace.claim("handover", left_until(access, end), make=False)


def left_until(access: Access, end: float) -> float:
    """Return until when a server waits for the next stage (seconds since the epoch)."""
    return min(end, time.time() + access.cluster.drill.handover_seconds)


def begin_anew(access: Access, workspace: Workspace, stale: Lease | None, end: float) -> None:
    """Own the folder, with nothing in it.

    What a dead drill, or an earlier try of this one, left behind is removed.
    """
    for drill_id in {workspace.directory.name, *([stale.owner] if stale else [])}:
        Workspace.of(access, drill_id).destroy()
    workspace.claim("restore", end, owner=this_process())
    workspace.create()


def take_over(access: Access, workspace: Workspace, end: float) -> None:
    """Own what an earlier stage has left. Raise ``handover`` if it is gone or its time is over."""
    lease = workspace.lease
    if why := lease.over() if lease else "nothing of it is there":
        raise CouldNotVerify(
            "handover",
            f"restored cluster of drill {workspace.directory.name}",
            found=why,
            expected=(
                f"to be taken over within {access.cluster.drill.handover_seconds:g} s of the stage"
                " before"
            ),
            hint=(
                "run the drill again; if its tasks wait long for a free slot, raise"
                " drill.handover_seconds"
            ),
        )
    workspace.claim("check", end, owner=this_process(), make=False)


def keep_until_end(access: Access, workspace: Workspace, started_at: datetime) -> datetime:
    """Leave the folder without an owner, and return when it ends.

    It stays until the drill's time is over, and for a handover's time at least.
    """
    end = max(ends_at(access, started_at), time.time() + access.cluster.drill.handover_seconds)
    workspace.claim("kept", end, make=False)
    return datetime.fromtimestamp(end, UTC)
