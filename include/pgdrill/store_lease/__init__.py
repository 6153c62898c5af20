"""Leases in the store: who works on a repository, from whatever host. See docs/locks.md for why this is safe."""

from __future__ import annotations

from pgdrill.store_lease.board import Board
from pgdrill.store_lease.claim import exclusive
from pgdrill.store_lease.held import HeldLease
from pgdrill.store_lease.model import Lease, Seen
from pgdrill.store_lease.protect import (
    Protection,
    alone,
    board_of,
    end_protection,
    protecting,
    still_protecting,
)

__all__ = ["Board", "HeldLease", "Lease", "Protection", "Seen", "alone", "board_of", "end_protection", "exclusive", "protecting", "still_protecting"]
