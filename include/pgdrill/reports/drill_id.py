"""The name of a drill: of its report, its folder and its lease."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

DRILL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,54}")


def new_drill_id() -> str:
    """Make one, as ``20261127T110000Z-3f9a2c``: names sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
