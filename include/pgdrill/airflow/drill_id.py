"""The drill's id, told from the DAG run: every task and every try of one run means the same
drill."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

# Safe in file names and URLs. With "pgdrill-" before it, an id must fit the 63 bytes of a restore
# point's name.
MAX_LENGTH = 48
HASH_LENGTH = 8
FITTING = re.compile(rf"[A-Za-z0-9][A-Za-z0-9-]{{0,{MAX_LENGTH - 1}}}")
RUN_ID = re.compile(
    r"(?P<kind>[a-z_]+)__(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))"
)


def drill_id_of(run_id: str) -> str:
    """An id of letters, digits and hyphens, up to 48 of them; what is one already stays as it is.

    ``scheduled__2026-11-27T11:00:00+00:00`` becomes ``20261127T110000Z-scheduled-1f0c2a9b``: it
    sorts by time, as the library's own ids do, and the hash of the whole text keeps two runs apart
    whatever was left out.
    """
    if FITTING.fullmatch(run_id):
        return run_id
    digest = hashlib.sha256(run_id.encode()).hexdigest()[:HASH_LENGTH]
    words = run_id
    if match := RUN_ID.match(run_id):
        words = (
            f"{datetime.fromisoformat(match['time']).astimezone(UTC):%Y%m%dT%H%M%SZ}"
            f"-{match['kind']}"
        )
    slug = (
        re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")[: MAX_LENGTH - HASH_LENGTH - 1].strip("-")
    )
    return f"{slug}-{digest}" if slug else digest
