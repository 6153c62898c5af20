"""Whether WAL says that no catalog was changed: every commit that changes one tells other sessions to forget what they know."""

from __future__ import annotations

import re
import time
from pathlib import Path

from pgdrill.access import Access
from pgdrill.errors import CouldNotVerify
from pgdrill.process import Runner
from pgdrill.walbatches import batches
from pgdrill.waldump import dump_range
from pgdrill.window import Line

LOOKING_SECONDS = 120.0
CHANGED = re.compile(r"desc: COMMIT.*(?:inval msgs|relcache init file inval|rels:)|desc: INVALIDATION")


def catalogs_untouched(access: Access, runner: Runner, folder: Path, line: Line, start_lsn: int, end_lsn: int) -> bool:
    """Whether no commit in a stretch of WAL has changed a catalog; False also where not all of it could be read in time."""
    until = time.monotonic() + LOOKING_SECONDS
    try:
        for batch in batches(access, runner, folder, line, start_lsn, end_lsn):
            if batch is None or time.monotonic() > until:
                return False
            text, unbroken = dump_range(access, batch[0], batch[-1], "--rmgr=Transaction")
            if not unbroken or CHANGED.search(text):
                return False
    except CouldNotVerify:
        return False
    return True
