"""Holds, each in an object of its own, so that hosts add and remove them at once.

A hold is acknowledged only if no prune can miss it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from pgdrill.access import Access
from pgdrill.documents import SMALL_DOCUMENT_BYTES, Instant, StrictModel
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify, PgdrillError, Unreachable
from pgdrill.repository.leases.board import boot_seconds
from pgdrill.repository.leases.model import Seen
from pgdrill.repository.leases.protect import board_of
from pgdrill.repository.ledger import memory_broken
from pgdrill.repository.tools.base import Entry
from pgdrill.retention.dumps import read_dumps
from pgdrill.retention.inventory import Hold
from pgdrill.text import one_line

logger = logging.getLogger(__name__)

FOLDER = "retention/holds/"
EVER = "retention/held.json"  # written with every hold: then an empty listing is a failure to see
# all of them in one object, as older versions kept them; never written any more
OLD_FILE = "retention/holds.json"
MOST = 10_000  # as many as a prune can confirm
POLL_SECONDS = 0.5
WAIT_SECONDS = 120.0
Kept = TypeVar("Kept", bound=StrictModel)


class HoldRecord(StrictModel):
    """One hold, as kept. Removing it is written into it: who did, and when."""

    id: str = Field("", max_length=64)
    name: str = Field(min_length=1, max_length=200)
    why: Annotated[str, Field(min_length=3), AfterValidator(one_line)]
    until: Instant
    by: Annotated[str, AfterValidator(one_line)] = ""
    added_at: Instant
    removed_at: Instant | None = None
    removed_by: str = ""

    @property
    def key(self) -> str:
        """The key under which it is kept."""
        return f"{FOLDER}{re.sub(r'[^A-Za-z0-9_-]', '_', self.name)}-{self.id}.json"


class OldHolds(StrictModel):
    """All of a cluster's holds, as older versions kept them."""

    version: int = 1
    holds: list[HoldRecord] = Field(default_factory=list)


def list_holds(access: Access) -> list[HoldRecord]:
    """Read every hold that nobody removed, those that have run out too; the oldest first."""
    found = {hold.id: hold for hold in _old(access)}
    keys = sorted(access.reports.sizes(FOLDER))
    if not keys and access.reports.read(EVER) is not None:
        raise _not_seen(access, FOLDER, "nothing is listed")
    if len(keys) > MOST:
        raise CouldNotVerify(
            "retention-memory-broken",
            f"{access.reports.url}/{FOLDER}",
            found=f"{len(keys)} holds",
            expected=f"at most {MOST}",
            hint=(
                "see who writes into the bucket, and remove the objects that are no holds; nothing"
                " is deleted meanwhile"
            ),
        )
    for key, text in access.reports.read_all(keys, SMALL_DOCUMENT_BYTES):
        if isinstance(text, PgdrillError):
            raise text
        if text is None:
            raise _not_seen(access, key, "it is listed, and not there")
        hold = _parse(access, key, text, HoldRecord)
        found[hold.id] = hold
    return sorted(
        (hold for hold in found.values() if hold.removed_at is None), key=lambda hold: hold.added_at
    )


def _not_seen(access: Access, key: str, found: str) -> Unreachable:
    """Return the error for a hold that is not seen.

    A hold is ended by writing, never by deleting: it was not looked for well, or somebody deleted
    it.
    """
    return Unreachable(
        "missing",
        f"holds at {access.reports.url}/{key}",
        found=found,
        expected="every hold that was ever added",
        hint=(
            "see what answers for the store (proxies, policies), then try again; deleted by hand,"
            " bring it back from the bucket's versions, or, if none is to be held, delete"
            f" {EVER}, too"
        ),
    )


def read_holds(access: Access) -> tuple[Hold, ...]:
    """Read the holds as the planner takes them."""
    return tuple(Hold(one.name, one.why, one.until, one.by, one.id) for one in list_holds(access))


def add_hold(
    access: Access,
    name: str,
    *,
    why: str,
    until: datetime,
    by: str = "",
    wait_seconds: float = WAIT_SECONDS,
    tell: Callable[[str], None] = logger.warning,
) -> HoldRecord:
    """Hold a backup or dump until a day.

    Returns when it is certain that no prune will delete it, and raises if it is not.

    A second hold of the same name is another one: the later end counts. ``tell`` is given for whom
    it waits.
    """
    if until <= datetime.now(UTC):
        raise ConfigError(
            "hold-over",
            f"hold of {name}",
            found=f"until {until.isoformat()}, which is past",
            expected="a day to come",
            hint="give --until a later day",
        )
    before = _whole(access, name)
    if before is None:
        raise ConfigError(
            "unknown-backup",
            f"{name!r} in {access.repository.url}",
            found="no such base backup or dump",
            expected="a full name",
            hint="take it from `pgdrill backups` or `pgdrill prune`",
        )
    hold = HoldRecord(
        id=secrets.token_hex(8), name=name, why=why, until=until, by=by, added_at=datetime.now(UTC)
    )
    access.reports.write(EVER, b"{}")
    _write(access, hold)
    rival = _wait_for_prunes(access, hold, before, wait_seconds, tell)
    if _whole(access, name) != before:
        _write(
            access,
            hold.model_copy(
                update={"removed_at": datetime.now(UTC), "removed_by": "refused: it was gone"}
            ),
        )
        raise BackupFault(
            "too-late",
            f"hold of {name}",
            found=f"it is gone, or going{f': {rival}' if rival else ''}",
            expected="what is to be held",
            hint=(
                "hold another one (`pgdrill backups`, `pgdrill window`); if the bucket keeps"
                " versions, restore its objects from them now"
            ),
        )
    if rival:
        raise CouldNotVerify(
            "not-confirmed",
            f"hold of {name}",
            found=f"written, and not yet read by {rival}, which may be deleting it",
            expected=f"that run to read it within {wait_seconds:g} s, or to end",
            hint=(
                "it stays written, and is kept to if that run reads it in time: look with `pgdrill"
                " hold list` once the run has ended"
            ),
        )
    return hold


def remove_hold(access: Access, name: str, by: str = "") -> list[HoldRecord]:
    """Take every hold of a name off. What it protected may go with the next run."""
    there = list_holds(access)
    gone = [hold for hold in there if hold.name == name]
    if not gone:
        raise ConfigError(
            "no-hold",
            f"hold of {name}",
            found=(
                f"none; held {'are ' + ', '.join(h.name for h in there) if there else 'is nothing'}"
            ),
            expected="the name of something held",
            hint="take a name from `pgdrill hold list`",
        )
    for hold in gone:
        _write(access, hold.model_copy(update={"removed_at": datetime.now(UTC), "removed_by": by}))
    return gone


def _wait_for_prunes(
    access: Access,
    hold: HoldRecord,
    chain: frozenset[str],
    wait_seconds: float,
    tell: Callable[[str], None],
) -> Seen | None:
    """Wait until no prune can delete a held thing unseen.

    Returns the prune that still might when the time is over, or None.

    A prune says in its lease what it deletes, and then reads the holds; a hold is written, and then
    the leases are read. So one of the two sees the other. What a prune has ``confirmed`` was read
    by it, whenever its lease was written.
    """
    board, told = board_of(access), ""
    written_at, began = access.reports.written(FOLDER).get(hold.key), boot_seconds()
    if written_at is None:
        raise _not_seen(access, hold.key, "it was written, and is not listed")
    deadline = time.monotonic() + wait_seconds
    while True:
        now = written_at + timedelta(seconds=boot_seconds() - began)
        rival = next((one for one in board.look() if _may_miss(one, hold, chain, now)), None)
        if rival is None or time.monotonic() > deadline:
            return rival
        if told != rival.key:
            told = rival.key
            tell(f"waiting until {rival} has read this hold")
        time.sleep(POLL_SECONDS)


def _may_miss(one: Seen, hold: HoldRecord, chain: frozenset[str], now: datetime) -> bool:
    lease = one.lease
    if lease is None:
        return one.stands(now)
    if lease.kind != "prune" or lease.state == "ended" or hold.id in lease.confirmed:
        return False
    return one.stands(now) or (bool(chain.intersection(lease.deleting)) and one.may_delete(now))


def _whole(access: Access, name: str) -> frozenset[str] | None:
    """Return the names that make up a thing: a delta's with what it builds on.

    None where it is not there.
    """
    known = {entry.name: entry for entry in access.repository.catalog()}
    if name in known:
        return frozenset(_chain(known, name))
    return (
        frozenset({name}) if any(dump.name == name for dump in read_dumps(access.dumps)) else None
    )


def _chain(known: dict[str, Entry], name: str) -> list[str]:
    """Return each name of a chain that is there.

    A mark follows one that is not finished, or not any more.
    """
    chain: list[str] = []
    while name in known and name not in chain:
        entry = known[name]
        chain += [name] if entry.finished else [name, f"{name} unfinished"]
        name = entry.backup.parent if entry.backup else ""
    return chain


def _old(access: Access) -> list[HoldRecord]:
    text = access.reports.read(OLD_FILE)
    if text is None:
        return []
    holds = _parse(access, OLD_FILE, text, OldHolds).holds
    return [
        one.model_copy(
            update={
                "id": (
                    hashlib.sha256(
                        f"{one.name}|{one.why}|{one.added_at.isoformat()}".encode()
                    ).hexdigest()[:16]
                )
            }
        )
        for one in holds
    ]


def _write(access: Access, hold: HoldRecord) -> None:
    access.reports.write(hold.key, hold.model_dump_json(indent=1).encode())


def _parse(access: Access, key: str, text: bytes, kind: type[Kept]) -> Kept:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise memory_broken(access.reports, key, error) from None
