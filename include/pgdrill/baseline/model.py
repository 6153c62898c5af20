"""The baseline as JSON: figures, names and digests, no row content and no vector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pgdrill.baseline.copied import Copied
from pgdrill.documents import Instant, LsnText, StrictModel, SystemIdentifier, Timeline
from pgdrill.postgres.catalog_fingerprint import NO_SPAN, Fingerprint, Span
from pgdrill.postgres.clock import ClockDifference
from pgdrill.postgres.row_digests import Content, Horizon
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES, parse_lsn
from pgdrill.vectors.model import VectorState

# Version 1 hashed other forms of rows and catalogs, 2 did not know the tables of vector columns, 3
# worded indexes by a search path, and 4 read rows before the restore point, in one digest that held
# their places.
BASELINE_VERSION = 5


SEGMENT_SIZES = {str(2**power) for power in range(20, 31)}  # 1 MB to 1 GB


class Changes(StrictModel):
    """Rows inserted, updated and deleted, as the server counts them."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def rewritten_rows(self) -> int:
        """The number of row versions that are not where they were: updated or deleted ones."""
        return self.updated + self.deleted


class TableState(StrictModel, frozen=False):
    """A table at the snapshot.

    With a restore point, the snapshot is one right before it, and another one was made right after
    it.
    """

    content: Content | None  # None where it was not read whole: too large, or ``unread`` says why
    # what the second snapshot still saw of the first one's rows; None if all of them
    later: Content | None = None
    bracketed: bool = False  # both snapshots are known
    missed: str = ""  # why its rows could not be read although they were there
    oid: int
    bytes: int
    filenode: int  # its file at the snapshot
    read_filenode: int = 0  # the file that was read: another one if it was rewritten just then
    columns: list[str] | None = None  # those that were read
    estimated_rows: int
    unread: str = ""
    # Single rows (see :func:`pgdrill.postgres.row_digests.read_sample`) of what was not read whole,
    # or was being written to just then, as of after the restore point: all have to come back.
    sample: dict[str, str] = Field(default_factory=dict)
    # Single rows that have to come back, too: both snapshots saw them, though a transaction wrote
    # them that may not have ended long before the first.
    newer: dict[str, str] = Field(default_factory=dict)
    counters: Changes  # as of before the snapshot
    vacuums: int = 0
    vacuumed: bool = False  # the number of ``vacuums`` grew
    # Once settled, this bounds what was written up to the restore point. None where no bound holds,
    # because the table was truncated, rewritten or altered, or its counters were reset.
    changes: Changes | None = None
    # The same whatever became of the table, as long as it has its counters, which know of no
    # TRUNCATE.
    since: Changes | None = None
    refiled: bool = False  # its file is another one by then
    settled: bool = False
    dropped: bool = False  # no longer there when settling
    # Somebody's function that a query of the table would run. Then the table is ``copied``, which
    # tells its rows without their places; None where that cannot be had, either (this says why).
    code: str = ""
    copied: Copied | None = None
    copied_later: Copied | None = None


class StateTable(StrictModel):
    """A table that must come back exactly as it was at the restore point (``drill.state_tables``).

    Two snapshots bracket the restore point. Rows are known by their place and writer, as in a
    sample. In a table that would run somebody's function (``code``), they are known by their hashes
    over ``columns`` alone. A row that is in neither ``firm`` nor ``either`` must be newer than the
    first snapshot (``horizon``).
    """

    rows: int
    digest: str
    horizon: Horizon
    # Rows that are in both snapshots, and that nobody was changing: they have to be there. None in
    # a large table that did not change; ``digest`` stands for them there.
    firm: dict[str, str] | None
    # Rows that one snapshot has, or that somebody was changing: they may be there.
    either: dict[str, str] = Field(default_factory=dict)
    unread: str = ""
    code: str = ""
    columns: list[str] = Field(default_factory=list)


class SequenceState(StrictModel, frozen=False):
    """A sequence's position before the snapshot."""

    value: int
    called: bool
    increment: int
    cache: int
    cycles: bool
    filenode: int
    later: int | None = None  # its value after the restore point; None: unknown or not there


class CollationState(StrictModel):
    """A collation in use: its versions and its order."""

    recorded: str | None  # the version that its objects were made with
    actual: str | None  # the library's version now
    order: str  # a digest of how it sorts


class DatabaseState(StrictModel, frozen=False):
    """One database: its extensions, tables, sequences, catalogs and vector columns."""

    extensions: dict[str, str]
    extensions_later: dict[str, str] | None = None
    # versions of extensions that the server has installed, whatever the database uses
    libraries: dict[str, str] = Field(default_factory=dict)
    horizon: Horizon
    tables: dict[str, TableState]
    state_tables: dict[str, StateTable] = Field(default_factory=dict)
    sequences: dict[str, SequenceState] = Field(default_factory=dict)
    unread_sequences: list[str] = Field(default_factory=list)
    collations: dict[str, CollationState] = Field(default_factory=dict)
    schema_objects: Fingerprint
    vectors: dict[str, VectorState] = Field(default_factory=dict)  # by ``schema.table.column``
    search_settings: dict[str, str] = Field(
        default_factory=dict
    )  # those that searches of the vectors run with


class Baseline(StrictModel, frozen=False):
    """The record of what production held, read before a restore point and completed after it."""

    version: Literal[5] = 5
    cluster: str
    taken_at: Instant
    system_identifier: SystemIdentifier
    timeline: Timeline
    settings: dict[str, str]
    # the roles and databases for which transactions are read-only by default
    read_only: list[str] = Field(default_factory=list)
    superusers: list[str] = Field(default_factory=list)  # those that may log in
    configured: dict[str, str] = Field(default_factory=dict)
    # settings in files that change what statements do (:mod:`pgdrill.postgres.by_file`); None: not
    # known
    by_file: dict[str, str] | None = None
    read_on: Literal["primary", "standby"] = "primary"  # where rows and catalogs were read
    shared_objects: Fingerprint
    # encoding and locale of every database of the cluster, templates too
    database_forms: dict[str, str] = Field(default_factory=dict)
    database_forms_later: dict[str, str] | None = None
    # oid -> the folder of each tablespace that lies outside of the data directory
    tablespaces: dict[str, str] = Field(default_factory=dict)
    databases: dict[str, DatabaseState]
    seconds: float = 0.0
    oldest_xid: int = 0  # the transactions below had ended at the beginning
    next_xid: int = 0
    end_xid: int = 0  # those from this one on cannot have committed before the restore point
    wal_lsn: LsnText = ""
    # the instant that a drill recovers to
    restore_point: str = ""
    lsn: LsnText = ""
    restore_point_at: Instant | None = None
    # the server's clock less that of the host that took the baseline (see
    # :mod:`pgdrill.postgres.clock`)
    clock_offset_seconds: float | None = None
    clock_uncertainty_seconds: float | None = None
    # when it was completed with what was written up to the restore point
    settled_at: Instant | None = None

    @property
    def span(self) -> Span:
        """The transactions that may have changed what the baseline saw before its restore point.

        It is empty without a restore point.
        """
        return Span(self.oldest_xid, self.end_xid) if self.end_xid else NO_SPAN

    def as_of_before(self, next_xid: int) -> Baseline:
        """Return the baseline for a later state, which ended before the transaction of that number.

        Whatever a transaction wrote since may be so.
        """
        return (
            self.model_copy(update={"end_xid": max(next_xid, self.oldest_xid + 1)})
            if self.oldest_xid
            else self
        )

    def nothing_since(self, next_xid: int) -> bool:
        """Return True if no transaction wrote anything from this baseline to a later state.

        ``next_xid`` is the next transaction's number in that state.
        """
        return 0 < self.oldest_xid == self.next_xid == next_xid

    @property
    def lsn_position(self) -> int:
        """The restore point as a byte position."""
        return parse_lsn(self.lsn)

    @property
    def clock(self) -> ClockDifference | None:
        """The server's clock compared with the one that took the baseline; None if unknown."""
        if self.clock_offset_seconds is None or self.clock_uncertainty_seconds is None:
            return None
        return ClockDifference(self.clock_offset_seconds, self.clock_uncertainty_seconds)

    @property
    def segment_bytes(self) -> int:
        """The size of production's WAL segments (``pg_settings`` gives it in bytes)."""
        told = self.settings.get("wal_segment_size", "")
        return int(told) if told in SEGMENT_SIZES else DEFAULT_SEGMENT_BYTES

    @property
    def major_version(self) -> str:
        """The major version, ``18`` of ``18.6 (Debian …)``; empty where it was not recorded."""
        return (
            self.settings.get("server_version", "").split(".")[0].split()[0]
            if self.settings.get("server_version")
            else ""
        )

    @property
    def not_queried(self) -> dict[str, str]:
        """The tables that no query was made of: ``database.schema.table`` -> why.

        The words say whose function a query would have run.
        """
        return {
            f"{name}.{table}": state.code
            for name, database in self.databases.items()
            for table, state in database.tables.items()
            if state.code
        }

    @property
    def unread(self) -> dict[str, str]:
        """The tables and sequences that could not be read: ``database.schema.table`` -> why."""
        found: dict[str, str] = {}
        for name, database in self.databases.items():
            states: list[tuple[str, TableState | StateTable]] = [
                *database.tables.items(),
                *database.state_tables.items(),
            ]
            found |= {f"{name}.{table}": state.unread for table, state in states if state.unread}
            found |= {
                f"{name}.{sequence}": f"permission denied: GRANT SELECT ON SEQUENCE {sequence}"
                for sequence in database.unread_sequences
            }
        return found
