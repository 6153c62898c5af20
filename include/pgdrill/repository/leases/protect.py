"""A drill's lease: what it restores from is not deleted meanwhile, from whatever host.

Spans its stages, in processes of their own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pgdrill.config import Cluster
from pgdrill.errors import Busy, CouldNotVerify, Momentary, NoKeys
from pgdrill.repository.leases.board import Board, place_of
from pgdrill.repository.leases.claim import exclusive
from pgdrill.repository.leases.held import HeldLease
from pgdrill.repository.leases.model import MAX_LIFE_SECONDS, Kind, Lease, Seen, new_lease
from pgdrill.repository.object_store import Storage

logger = logging.getLogger(__name__)


class Holder(Protocol):
    """Whose lease it is: a cluster and its report store, which is opened when it is asked for."""

    @property
    def cluster(self) -> Cluster: ...

    @property
    def reports(self) -> Storage: ...


def board_of(holder: Holder) -> Board:
    """Return the leases of a cluster's repository, as this host writes them."""
    return Board(holder.reports, place_of(holder.cluster.state_directory))


@dataclass
class Protection:
    """What a drill holds. ``held`` None: nothing, and ``trouble`` says why.

    ``going``: prunes that were deleting when it came.
    """

    held: HeldLease | None = None
    trouble: str = ""
    going: list[Seen] = field(default_factory=list)

    def choose(self, name: str, *, parent: str = "", wal_from: int | None = None) -> None:
        """Protect from now on this backup (or dump), what it builds on, and its WAL.

        ``wal_from``: the position from which on WAL is protected.

        What was being deleted before the lease stood may have been looked at while it went: then
        this is refused.
        """
        if self.held is None:
            return
        try:
            self.held.write(everything=False, names=(name,), wal_from=wal_from)
        except CouldNotVerify as error:  # then it still protects everything, until it runs out
            self.trouble = str(error.problem.found)
        for one in self.going:
            lease = one.lease
            if lease is None:
                continue
            its_wal = wal_from is not None and (lease.deleting_wal_before or 0) > wal_from
            if name in lease.deleting or (parent and lease.deleting) or its_wal:
                raise Momentary(
                    "being-deleted",
                    name,
                    found=f"{one} was deleting {', '.join(lease.deleting)} when this drill began",
                    expected="a backup and WAL that stay",
                    hint="drill again once that run has ended, or choose another backup",
                )

    @property
    def note(self) -> str:
        """The reason why it did not stand all the time; empty if it did."""
        return self.trouble or (self.held.trouble if self.held else "")


class Noting(Protocol):
    """A report."""

    no_lease: str


@contextlib.contextmanager
def protecting(holder: Holder, owner: str, report: Noting) -> Iterator[Protection]:
    """Protect everything until the job has chosen.

    Without permission to write it goes on without, and the report says so.
    """
    with _standing(holder, lambda board: _begin(holder, board, owner)) as protection:
        try:
            yield protection
        finally:
            report.no_lease = protection.note


@contextlib.contextmanager
def still_protecting(holder: Holder, owner: str) -> Iterator[Protection]:
    """Go on with the lease that an earlier stage of the same drill left, if it left one."""
    with _standing(holder, lambda board: _go_on(holder, board, owner)) as protection:
        yield protection


@contextlib.contextmanager
def alone(
    holder: Holder, kind: Kind, *, wait_seconds: float, over: frozenset[Kind]
) -> Iterator[None]:
    """Hold the place of the only job of its kind, from whatever host.

    Where the store takes no lease, it is the only one of this host: better a backup than none.
    """
    with contextlib.ExitStack() as held:
        life = holder.cluster.repository.lease_seconds
        try:
            held.enter_context(
                exclusive(
                    board_of(holder),
                    kind,
                    kind,
                    life_seconds=life,
                    wait_seconds=wait_seconds,
                    over=over,
                )
            )
        except (Busy, NoKeys):
            raise
        except CouldNotVerify as error:
            logger.warning(
                "no lease in the store keeps other hosts from a %s meanwhile: %s", kind, error
            )
        yield


def end_protection(holder: Holder, owner: str) -> None:
    """Give the lease of a drill up, by writing.

    None there is fine, and what cannot be ended runs out.
    """
    try:
        board = board_of(holder)
        lease = _left(board, owner)
        if lease:
            HeldLease(board, board.key("drill"), lease, exclusive=False).end()
    except CouldNotVerify as error:
        logger.warning("the drill's lease in the store runs out by itself: %s", error)


@contextlib.contextmanager
def _standing(holder: Holder, begin: Callable[[Board], Protection]) -> Iterator[Protection]:
    try:
        protection = begin(board_of(holder))
    except NoKeys:  # then nothing can be restored either
        raise
    except CouldNotVerify as error:
        logger.warning("no lease in the store protects what is restored from: %s", error)
        protection = Protection(trouble=f"{error.problem.thing}: {error.problem.found}")
    if protection.held:
        protection.held.keep_up()
    try:
        yield protection
    finally:
        if protection.held:
            protection.held.stop()
            with contextlib.suppress(CouldNotVerify):  # it runs out sooner, then
                protection.held.write(
                    life_seconds=min(holder.cluster.drill.handover_seconds, MAX_LIFE_SECONDS)
                )


def _begin(holder: Holder, board: Board, owner: str) -> Protection:
    lease = new_lease("drill", owner, holder.cluster.repository.lease_seconds)
    held = HeldLease(board, board.key("drill"), lease, exclusive=False)
    held.write(state="held", everything=True)
    seen = board.look()
    return Protection(
        held, going=[one for one in seen if one.key != held.key and one.may_delete(board.now)]
    )


def _go_on(holder: Holder, board: Board, owner: str) -> Protection:
    lease = _left(board, owner)
    if lease is None:
        return Protection()
    held = HeldLease(board, board.key("drill"), lease, exclusive=False)
    held.write(life_seconds=holder.cluster.repository.lease_seconds)
    return Protection(held)


def _left(board: Board, owner: str) -> Lease | None:
    key = board.key("drill")
    seen = next((one for one in board.look() if one.key == key), None)
    lease = seen.lease if seen else None
    return lease if lease and lease.owner == owner and lease.state != "ended" else None
