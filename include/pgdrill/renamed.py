"""Names that a version gave up: until when they are taken, and how that is said."""

from __future__ import annotations

TAKEN_UNTIL = "0.2.0"  # this version no longer takes them


def now_called(old: str, new: str) -> str:
    """Return the warning of who uses an old name."""
    return f"{old} is now {new}; the old name is taken until version {TAKEN_UNTIL}"
