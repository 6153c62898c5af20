"""What retention remembers beside the backups.

It is the marks it made, the clocks it doubted, and what was let go. Holds are in
:mod:`pgdrill.retention.holds`, its runs in :mod:`prune_runs`.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field, ValidationError

from pgdrill.documents import StrictModel
from pgdrill.errors import CouldNotVerify
from pgdrill.repository.object_store import Storage

FOLDER = "retention"
LEDGER = f"{FOLDER}/ledger.json"


class Ledger(StrictModel):
    """What retention remembers.

    ``marked``: the backups that pgdrill itself made permanent; others were by hand. ``doubted``:
    those whose times it once found wrong, and why. ``forgotten``: backups and dumps that are gone,
    not by pgdrill, and that somebody let go.
    """

    version: int = 1
    marked: list[str] = Field(default_factory=list)
    doubted: dict[str, str] = Field(default_factory=dict)
    forgotten: list[str] = Field(default_factory=list)


def read_ledger(reports: Storage) -> Ledger:
    """Read the ledger, an empty one before the first run."""
    text = reports.read(LEDGER)
    if text is None:
        return Ledger()
    try:
        return Ledger.model_validate_json(text)
    except ValidationError as error:
        raise memory_broken(reports, LEDGER, error) from None


def write_ledger(reports: Storage, ledger: Ledger) -> None:
    """Keep the ledger."""
    reports.write(LEDGER, ledger.model_dump_json(indent=1).encode())


def forget(reports: Storage, names: Iterable[str]) -> None:
    """Note in the ledger that somebody let go of backups and dumps that are gone."""
    ledger = read_ledger(reports)
    forgotten = sorted({*ledger.forgotten, *names})
    write_ledger(reports, ledger.model_copy(update={"forgotten": forgotten}))


def memory_broken(reports: Storage, key: str, error: ValidationError) -> CouldNotVerify:
    """Return the error for what retention remembers and cannot read.

    Nothing is deleted without it.
    """
    return CouldNotVerify(
        "retention-memory-broken",
        f"{reports.url}/{key}",
        found=f"unreadable ({error.errors()[0]['msg']})",
        expected="what pgdrill wrote",
        hint="restore the object from the bucket's versions; nothing is deleted without it",
    )
