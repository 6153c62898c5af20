"""What retention remembers beside the backups: holds, the marks it made, the clocks it doubted."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pgdrill.access import Access
from pgdrill.errors import ConfigError, CouldNotVerify
from pgdrill.lock import ClusterLock, lease_for, this_process
from pgdrill.retention.inventory import Hold

FOLDER = "retention"
HOLDS = f"{FOLDER}/holds.json"
LEDGER = f"{FOLDER}/ledger.json"
Kept = TypeVar("Kept", bound=BaseModel)


class HoldRecord(BaseModel):
    """One hold, as kept."""

    model_config = ConfigDict(extra="forbid")

    name: str
    why: str = Field(min_length=3)
    until: datetime
    by: str = ""
    added_at: datetime


class Holds(BaseModel):
    """All of a cluster's holds; those that have run out stay for the record until they are removed."""

    model_config = ConfigDict(extra="forbid")

    version: int = 1
    holds: list[HoldRecord] = Field(default_factory=list)


class Ledger(BaseModel):
    """Which backups pgdrill itself made permanent (others were by hand), and whose times it once found wrong, and why.

    ``forgotten``: backups and dumps that are gone, not by pgdrill, and that somebody let go.
    """

    model_config = ConfigDict(extra="forbid")

    version: int = 1
    marked: list[str] = Field(default_factory=list)
    doubted: dict[str, str] = Field(default_factory=dict)
    forgotten: list[str] = Field(default_factory=list)


def read_holds(access: Access) -> tuple[Hold, ...]:
    """The holds as the planner takes them."""
    return tuple(Hold(one.name, one.why, one.until, one.by) for one in _read(access, HOLDS, Holds).holds)


def read_ledger(access: Access) -> Ledger:
    """The ledger; an empty one before the first run."""
    return _read(access, LEDGER, Ledger)


def write_ledger(access: Access, ledger: Ledger) -> None:
    """Keep the ledger."""
    access.reports.write(LEDGER, ledger.model_dump_json(indent=1).encode())


def forget(access: Access, names: Iterable[str]) -> None:
    """Remember of backups and dumps that are gone that somebody let them go."""
    ledger = read_ledger(access)
    ledger.forgotten = sorted({*ledger.forgotten, *names})
    write_ledger(access, ledger)


def add_hold(access: Access, name: str, *, why: str, until: datetime, by: str = "") -> HoldRecord:
    """Hold a backup or dump until a day. A second hold of the same name is another one: the later end counts."""
    if until <= datetime.now(UTC):
        raise ConfigError(
            "hold-over", f"hold of {name}", found=f"until {until.isoformat()}, which is past", expected="a day to come",
            mend="give --until a later day",
        )  # fmt: skip
    hold = HoldRecord(name=name, why=why, until=until, by=by, added_at=datetime.now(UTC))
    with _one_writer(access):
        holds = _read(access, HOLDS, Holds)
        holds.holds.append(hold)
        access.reports.write(HOLDS, holds.model_dump_json(indent=1).encode())
    return hold


def remove_hold(access: Access, name: str) -> list[HoldRecord]:
    """Take every hold of a name off; what it protected may go with the next run."""
    with _one_writer(access):
        holds = _read(access, HOLDS, Holds)
        gone = [hold for hold in holds.holds if hold.name == name]
        if not gone:
            raise ConfigError(
                "no-hold", f"hold of {name}", found=f"none; there are holds of {', '.join(h.name for h in holds.holds) or 'nothing'}",
                expected="the name of something held", mend="take a name from `pgdrill hold list`",
            )  # fmt: skip
        holds.holds = [hold for hold in holds.holds if hold.name != name]
        access.reports.write(HOLDS, holds.model_dump_json(indent=1).encode())
    return gone


def list_holds(access: Access) -> list[HoldRecord]:
    """All holds as kept."""
    return _read(access, HOLDS, Holds).holds


def _one_writer(access: Access):  # type: ignore[no-untyped-def]
    state = access.cluster.state_directory
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return ClusterLock(state / "holds.lock").hold(lease_for("hold", state, 60, this_process()))


def _read(access: Access, key: str, kind: type[Kept]) -> Kept:
    text = access.reports.read(key)
    if text is None:
        return kind()
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise CouldNotVerify(
            "retention-memory-broken", f"{access.reports.url}/{key}", found=f"unreadable ({error.errors()[0]['msg']})",
            expected="what pgdrill wrote", mend="restore the object from the bucket's versions; nothing is deleted without it",
        ) from None  # fmt: skip
