"""A lease while its job works: a thread renews it, and a write gives it up."""

from __future__ import annotations

import logging
import threading
from typing import Any

from pgdrill.errors import CouldNotVerify, Momentary
from pgdrill.repository.leases.board import Board, boot_seconds
from pgdrill.repository.leases.model import Lease, Seen

logger = logging.getLogger(__name__)

RAN_OUT = "it ran out before it was renewed: this host or the store stood still"


class HeldLease:
    """The lease of one job.

    An ``exclusive`` one is never renewed once it ran out: somebody else may have come since.
    """

    def __init__(self, board: Board, key: str, lease: Lease, *, exclusive: bool) -> None:
        self.board, self.key, self.lease, self.exclusive = board, key, lease, exclusive
        self.trouble = ""  # why it did not stand all the time
        self._written_at = float("-inf")
        self._writing = threading.Lock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def ran_out(self) -> bool:
        """True if the lease may have run out by now, counted from before it was sent."""
        return boot_seconds() - self._written_at >= self.lease.life_seconds

    def write(self, **changes: Any) -> None:
        """Write the lease with some changes; this renews it, too."""
        with self._writing:
            self._write(changes)

    def _write(self, changes: dict[str, Any]) -> None:
        lease = self.lease.model_copy(update=changes)
        # the lease that is renewed has to stand until the new one is there
        unbroken = self.exclusive and lease.state == "held"
        if unbroken and self.ran_out:
            raise self._lost(RAN_OUT)
        runs_out_at, began = self._written_at + self.lease.life_seconds, boot_seconds()
        if not self.board.put(self.key, lease):
            raise self._lost("another process wrote under its key")
        self.lease, self._written_at = lease, began
        if unbroken and boot_seconds() >= runs_out_at:
            raise self._lost(RAN_OUT)

    def look(self) -> list[Seen]:
        """Return the others' leases that stand.

        Raises if this one is not there as it was written.
        """
        seen = self.board.look()
        mine = next((one for one in seen if one.key == self.key), None)
        if mine is None or mine.lease is None or mine.lease.id != self.lease.id:
            raise self._lost(
                "another process wrote under its key" if mine else "the store does not list it"
            )
        return [one for one in seen if one.key != self.key and one.stands(self.board.now)]

    def confirm(self, ignoring: frozenset[str] = frozenset(), **changes: Any) -> list[Seen]:
        """Renew the lease and see that nobody else came in; return the others' leases.

        Used right before something is deleted.
        """
        self.write(**changes)
        others = [one for one in self.look() if one.key not in ignoring]
        if rival := next(
            (one for one in others if one.held() and one.excludes(self.lease.kind)), None
        ):
            raise self._lost(f"meanwhile there is {rival}")
        self.still_held()
        return others

    def still_held(self) -> None:
        """Raise if the lease ran out meanwhile: this process may have been stopped for long."""
        if self.ran_out:
            raise self._lost(RAN_OUT)

    def keep_up(self) -> None:
        """Renew the lease from now on, every third of its life."""
        self._thread = threading.Thread(
            target=self._renew, name=f"lease-{self.lease.kind}", daemon=True
        )
        self._thread.start()

    def _renew(self) -> None:
        while not self._done.wait(self.lease.life_seconds / 3):
            if self.ran_out and not self.trouble:
                self.trouble = "it ran out for a while: this host or the store stood still"
            try:
                self.write()
            except CouldNotVerify as error:
                logger.warning("the %s's lease was not renewed: %s", self.lease.kind, error)

    def stop(self) -> None:
        """Renew the lease no longer."""
        self._done.set()
        if self._thread:
            self._thread.join()

    def end(self) -> None:
        """Give the lease up. If even that fails it runs out by itself."""
        self.stop()
        try:
            self.write(state="ended", deleting=(), deleting_wal_before=None)
        except CouldNotVerify as error:
            logger.warning(
                "the %s's lease runs out by itself, for it could not be ended: %s",
                self.lease.kind,
                error,
            )

    def _lost(self, found: str) -> Momentary:
        return Momentary(
            "lease-lost",
            f"lease of {self.lease.kind} {self.lease.owner} in {self.board.reports.url}/{self.key}",
            found=found,
            expected="a lease that stood all the time",
            hint="run it again; it plans afresh from what is there",
        )
