"""The size of a cluster's WAL segments (``initdb --wal-segsize``).

Where production does not answer, it is what is known of it.
"""

from __future__ import annotations

import logging

from pgdrill.access import Access
from pgdrill.baseline import backup_record
from pgdrill.errors import PgdrillError
from pgdrill.postgres.binaries import is_data_directory
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES

logger = logging.getLogger(__name__)


def segment_bytes(access: Access) -> int:
    """Return the segment size in bytes.

    ``pg_control`` says it where production's data directory is here, else the newest recorded
    backup.
    """
    return beside_here(access) or recorded(access) or DEFAULT_SEGMENT_BYTES


def beside_here(access: Access) -> int | None:
    """Read the size from the data directory.

    None where it is not on this host, or closed to this user.
    """
    directory = access.cluster.server.data_directory
    return (
        access.binaries.control_data(directory).wal_segment_bytes
        if is_data_directory(directory)
        else None
    )


def recorded(access: Access) -> int | None:
    """Read the size from the record of the newest base backup that can be read.

    None where there is none.
    """
    names = (
        key.removeprefix("backups/").removesuffix(".json")
        for key in access.reports.sizes("backups/")
    )
    for name in sorted(names, reverse=True):
        try:
            found = backup_record.read(access.reports, name)
        except PgdrillError as error:
            logger.warning("not asked for the size of WAL segments: %s", error)
            continue
        if found:
            return found.baseline.segment_bytes
    return None
