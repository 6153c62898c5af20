"""The baseline as JSON: figures, names and digests, no row content and no vector."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from pgdrill.baseline.copied import Copied
from pgdrill.documents import Instant, LsnText, SystemIdentifier, Timeline
from pgdrill.postgres.catalog_fingerprint import NO_SPAN, Fingerprint, Span
from pgdrill.postgres.clock import ClockDifference
from pgdrill.postgres.row_digests import Content, Horizon
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES, parse_lsn
from pgdrill.vectors.model import VectorState

# 1 hashed other forms of rows and catalogs, 2 did not know the tables of vector columns, 3 worded
# indexes by a search path, 4 read rows before the restore point, in one digest that held their
# places.
BASELINE_VERSION = 5


SEGMENT_SIZES = {str(2**power) for power in range(20, 31)}  # 1 MB to 1 GB


class Model(BaseModel):
    """A part of the baseline as JSON."""

    model_config = ConfigDict(extra="forbid")


class Changes(Model):
    """Rows inserted, updated and deleted, as the server counts them."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def rewritten_rows(self) -> int:
        """Row versions that are not where they were: updated or deleted ones."""
        return self.updated + self.deleted


class TableState(Model):
    """A table at the snapshot. ``content`` is None where the table was not read whole: too large,
    or ``unread`` says why.

    With a restore point, the snapshot is one right before it, and another one was made right after
    it. ``bracketed`` says that both are known: ``later`` is what the second one still saw of the
    first one's rows, None if all of them. ``missed`` says why they could not be read although they
    were there. ``sample`` holds single rows (see :func:`pgdrill.postgres.row_digests.read_sample`)
    of what was not read whole or was being written to just then, as of after the restore point: all
    of them have to come back. So do the ``newer`` ones, which both snapshots saw though a
    transaction wrote them that may not have ended long before the first.

    ``filenode`` is its file at the snapshot, ``read_filenode`` the one that was read (another one,
    if it was rewritten just then), ``columns`` are those that were read. ``counters`` are as of
    before the snapshot; ``changes``, once settled, bound what was written up to the restore point;
    None where no bound holds, because the table was truncated, rewritten or altered, or its
    counters were reset. ``since``: the same whatever became of it, as long as it has its counters,
    which know of no TRUNCATE; ``refiled``: its file is another one by then. ``dropped``: no longer
    there when settling. ``vacuumed``: the number of its ``vacuums`` grew. ``code`` names somebody's
    function that a query of the table would run: then it is ``copied``, which tells its rows
    without their places; None where that cannot be had, either (``code`` says why).
    """

    content: Content | None
    later: Content | None = None
    bracketed: bool = False
    missed: str = ""
    oid: int
    bytes: int
    filenode: int
    read_filenode: int = 0
    columns: list[str] | None = None
    estimated_rows: int
    unread: str = ""
    sample: dict[str, str] = {}
    newer: dict[str, str] = {}
    counters: Changes
    vacuums: int = 0
    vacuumed: bool = False
    changes: Changes | None = None
    since: Changes | None = None
    refiled: bool = False
    settled: bool = False
    dropped: bool = False
    code: str = ""
    copied: Copied | None = None
    copied_later: Copied | None = None


class StateTable(Model):
    """A table that must come back exactly as it was at the restore point (``drill.state_tables``).

    Two snapshots bracket the restore point. ``firm`` rows are in both, and nobody was changing
    them: they have to be there. ``either`` holds those that one snapshot has, or that somebody was
    changing: they may be there. Any other row must be newer than the first snapshot (``horizon``).
    Rows by their place and writer, as in a sample; in a large table that did not change, ``digest``
    stands for them and ``firm`` is None. Of a table that would run somebody's function (``code``),
    rows are known by their hashes over ``columns`` alone.
    """

    rows: int
    digest: str
    horizon: Horizon
    firm: dict[str, str] | None
    either: dict[str, str] = {}
    unread: str = ""
    code: str = ""
    columns: list[str] = []


class SequenceState(Model):
    """A sequence's position before the snapshot, and (``later``) after the restore point; None:
    unknown or not there.
    """

    value: int
    called: bool
    increment: int
    cache: int
    cycles: bool
    filenode: int
    later: int | None = None


class CollationState(Model):
    """A collation: the version its objects were made with, the library's version now, a digest of
    how it sorts.
    """

    recorded: str | None
    actual: str | None
    order: str


class DatabaseState(Model):
    """One database. ``libraries`` are the versions of extensions that the server has installed,
    whatever a database uses.

    ``vectors``: by ``schema.table.column``; ``search_settings``: what searches of them run with.
    """

    extensions: dict[str, str]
    extensions_later: dict[str, str] | None = None
    libraries: dict[str, str] = {}
    horizon: Horizon
    tables: dict[str, TableState]
    state_tables: dict[str, StateTable] = {}
    sequences: dict[str, SequenceState] = {}
    unread_sequences: list[str] = []
    collations: dict[str, CollationState] = {}
    schema_objects: Fingerprint
    vectors: dict[str, VectorState] = {}
    search_settings: dict[str, str] = {}


class Baseline(Model):
    """What production held. ``restore_point`` and ``lsn`` name the instant a drill recovers to.

    ``database_forms`` tells encoding and locale of every database of the cluster, templates too;
    ``tablespaces`` the folder of each that lies outside of the data directory, by oid. ``read_on``:
    where rows and catalogs were read. ``settled_at``: when it was completed with what was written
    up to the restore point. ``superusers`` are those that may log in. ``by_file``: what files set
    of that which changes what statements do (:mod:`pgdrill.postgres.by_file`); None: not known.
    ``read_only`` says for which roles and databases transactions are read-only by default.
    ``clock_offset_seconds`` is the server's clock less that of the host that took the baseline (see
    :mod:`pgdrill.postgres.clock`). Transactions below ``oldest_xid`` had ended at the beginning,
    those from ``end_xid`` on cannot have committed before the restore point.
    """

    version: Literal[5] = 5
    cluster: str
    taken_at: Instant
    system_identifier: SystemIdentifier
    timeline: Timeline
    settings: dict[str, str]
    read_only: list[str] = []
    superusers: list[str] = []
    configured: dict[str, str] = {}
    by_file: dict[str, str] | None = None
    read_on: Literal["primary", "standby"] = "primary"
    shared_objects: Fingerprint
    database_forms: dict[str, str] = {}
    database_forms_later: dict[str, str] | None = None
    tablespaces: dict[str, str] = {}
    databases: dict[str, DatabaseState]
    seconds: float = 0.0
    oldest_xid: int = 0
    next_xid: int = 0
    end_xid: int = 0
    wal_lsn: LsnText = ""
    restore_point: str = ""
    lsn: LsnText = ""
    restore_point_at: Instant | None = None
    clock_offset_seconds: float | None = None
    clock_uncertainty_seconds: float | None = None
    settled_at: Instant | None = None

    @property
    def span(self) -> Span:
        """The transactions that may have changed what the baseline saw before its restore point;
        none without one.
        """
        return Span(self.oldest_xid, self.end_xid) if self.end_xid else NO_SPAN

    def as_of_before(self, next_xid: int) -> Baseline:
        """The same for a later state, which ended before the transaction of that number: whatever
        one since wrote may be so.
        """
        return (
            self.model_copy(update={"end_xid": max(next_xid, self.oldest_xid + 1)})
            if self.oldest_xid
            else self
        )

    def nothing_since(self, next_xid: int) -> bool:
        """Whether no transaction has written anything between this baseline and a state with that
        next number.
        """
        return 0 < self.oldest_xid == self.next_xid == next_xid

    @property
    def lsn_position(self) -> int:
        """The restore point as a byte position."""
        return parse_lsn(self.lsn)

    @property
    def clock(self) -> ClockDifference | None:
        """The server's clock against the one that took the baseline."""
        if self.clock_offset_seconds is None or self.clock_uncertainty_seconds is None:
            return None
        return ClockDifference(self.clock_offset_seconds, self.clock_uncertainty_seconds)

    @property
    def segment_bytes(self) -> int:
        """Size of production's WAL segments (``pg_settings`` gives it in bytes)."""
        told = self.settings.get("wal_segment_size", "")
        return int(told) if told in SEGMENT_SIZES else DEFAULT_SEGMENT_BYTES

    @property
    def major_version(self) -> str:
        """``18`` of ``18.6 (Debian …)``; empty where it was not recorded."""
        return (
            self.settings.get("server_version", "").split(".")[0].split()[0]
            if self.settings.get("server_version")
            else ""
        )

    @property
    def not_queried(self) -> dict[str, str]:
        """``database.schema.table`` of what no query was made of -> whose function it would have
        run.
        """
        return {
            f"{name}.{table}": state.code
            for name, database in self.databases.items()
            for table, state in database.tables.items()
            if state.code
        }

    @property
    def unread(self) -> dict[str, str]:
        """``database.schema.table`` of what could not be read -> why."""
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
