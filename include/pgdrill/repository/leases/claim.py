"""The claim to be the one job, with nothing but puts that can be read afterwards.

A job raises a flag, then looks. Whoever sees no other flag after its own was taken is alone, for of
two that raise theirs at least one sees the other's. No condition, clock or order of arrival is
needed for that, only for telling that a dead job's flag has run out.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator

from pgdrill.errors import Busy
from pgdrill.repository.leases.board import Board
from pgdrill.repository.leases.held import HeldLease
from pgdrill.repository.leases.model import Kind, Lease, Seen, new_lease

POLL_SECONDS = 1.0


@contextlib.contextmanager
def exclusive(
    board: Board,
    kind: Kind,
    owner: str,
    *,
    life_seconds: float,
    wait_seconds: float,
    over: frozenset[Kind] = frozenset(),
) -> Iterator[HeldLease]:
    """Hold the repository against other jobs of the kind, and those that it excludes.

    ``over``: kinds whose local locks this process holds; leases of this place of such a kind are a
    dead process's.
    """
    held = HeldLease(board, board.key(kind), new_lease(kind, owner, life_seconds), exclusive=True)
    try:
        claim(held, dead=frozenset(board.key(one) for one in over), wait_seconds=wait_seconds)
        held.keep_up()
        yield held
    finally:
        held.end()


def claim(
    held: HeldLease,
    *,
    dead: frozenset[str],
    wait_seconds: float,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Claim until nobody else does, and hold.

    Of several claims that of the lowest key stays up; the others make way.
    """
    deadline = clock() + wait_seconds
    while True:
        held.write(state="claimed")
        rivals = _rivals(held, dead)
        if not rivals and not held.ran_out:
            held.write(state="held")
            return
        if any(one.held() or one.key < held.key for one in rivals):
            held.write(state="ended")
        if rivals and clock() >= deadline:
            held.write(state="ended")
            raise _busy(held.lease, rivals[0])
        pause(POLL_SECONDS * (0.5 + random.random()))  # noqa: S311 - spreads tries, keeps no secret


def _rivals(held: HeldLease, dead: frozenset[str]) -> list[Seen]:
    found = [one for one in held.look() if one.excludes(held.lease.kind) and one.key not in dead]
    return sorted(found, key=lambda one: (not one.held(), one.key))


def _busy(lease: Lease, rival: Seen) -> Busy:
    return Busy(
        f"{lease.kind} {lease.owner}",
        found=f"held in the store by {rival}",
        expected="one at a time for a repository",
        hint=(
            "wait for it (`--wait`), or end it; a lease whose job died runs out by itself (`pgdrill"
            " leases` shows them)"
        ),
    )
