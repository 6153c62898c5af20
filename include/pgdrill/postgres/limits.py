"""The room that a recovering server needs for what it finds in a backup and its WAL.

It needs at least as much as production had. Production's may have been raised since the base
backup, when its ``pg_control`` was copied. Where production is gone too, the record of the backup
is the best that is known, and it costs little to have room for what recovery could meet beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgdrill.postgres.binaries import LIMITS, ControlData

# Recovery ends with a FATAL or PANIC where one more has to be kept than there is room for. Together
# these take some 20 MB of shared memory.
PREPARED_TRANSACTIONS = 1000
REPLICATION_ORIGINS = 1000
SLOTS = "max_replication_slots"  # before PostgreSQL 18 the limit of origins, too
ORIGINS, ORIGINS_SINCE = "max_active_replication_origins", 18


def limits(control: ControlData, major: int, *production: Mapping[str, str]) -> dict[str, int]:
    """Return every setting of this kind with the greatest value that is known.

    Known are the backup's own, those that somebody set on production, and what is always given.
    """
    least = {
        "max_prepared_transactions": PREPARED_TRANSACTIONS,
        SLOTS if major < ORIGINS_SINCE else ORIGINS: REPLICATION_ORIGINS,
    }
    names = {*LIMITS.values(), *least}
    found: dict[str, int] = {}
    for values in (control.limits, least, *production):
        for name, value in values.items():
            if name in names and (told := str(value)).isdecimal():
                found[name] = max(found.get(name, 0), int(told))
    return found
