"""Leases in the store: they tell who works on a repository, from whatever host.

See docs/explanation/locks.md for why this is safe.
"""

from __future__ import annotations

from pgdrill.repository.leases.board import Board
from pgdrill.repository.leases.claim import exclusive
from pgdrill.repository.leases.held import HeldLease
from pgdrill.repository.leases.model import Lease, Seen
from pgdrill.repository.leases.protect import (
    Protection,
    alone,
    board_of,
    end_protection,
    protecting,
    still_protecting,
)

__all__ = [
    "Board",
    "HeldLease",
    "Lease",
    "Protection",
    "Seen",
    "alone",
    "board_of",
    "end_protection",
    "exclusive",
    "protecting",
    "still_protecting",
]
