"""A look into WAL for commits that changed a catalog.

Every commit that changes one tells other sessions to forget what they know. Prepared transactions,
which are compared with the catalogs, have records of their own.
"""

from __future__ import annotations

import re

from pgdrill.errors import CouldNotVerify
from pgdrill.repository.restorable_window import Line
from pgdrill.repository.wal_batches import records
from pgdrill.repository.wal_files import WalReader

LOOKING_SECONDS = 120.0
CHANGED = re.compile(
    r"desc: COMMIT.*(?:inval msgs|relcache init file inval|rels:)|desc:"
    r" (?:INVALIDATION|PREPARE|COMMIT_PREPARED|ABORT_PREPARED)\b"
)


def catalogs_untouched(wal: WalReader, line: Line, start_lsn: int, end_lsn: int) -> bool:
    """Return whether no commit in a stretch of WAL has changed a catalog.

    False also where not all of it could be read in time.
    """
    ended = records(wal, line, start_lsn, end_lsn, "Transaction", seconds=LOOKING_SECONDS)
    try:
        return all(whole and not CHANGED.search(text) for text, whole in ended)
    except CouldNotVerify:
        return False
