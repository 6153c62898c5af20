"""The memory of retention beside the backups: the marks it made, the clocks it doubted.

Holds are in :mod:`holds`.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pgdrill.access import Access
from pgdrill.retention.holds import memory_broken

FOLDER = "retention"
LEDGER = f"{FOLDER}/ledger.json"


class Ledger(BaseModel):
    """The marks that pgdrill itself made, and the times that it once found wrong, and why.

    Other backups were made permanent by hand.

    ``forgotten``: backups and dumps that are gone, not by pgdrill, and that somebody let go.
    """

    model_config = ConfigDict(extra="forbid")

    version: int = 1
    marked: list[str] = Field(default_factory=list)
    doubted: dict[str, str] = Field(default_factory=dict)
    forgotten: list[str] = Field(default_factory=list)


def read_ledger(access: Access) -> Ledger:
    """Read the ledger, an empty one before the first run."""
    text = access.reports.read(LEDGER)
    if text is None:
        return Ledger()
    try:
        return Ledger.model_validate_json(text)
    except ValidationError as error:
        raise memory_broken(access, LEDGER, error) from None


def write_ledger(access: Access, ledger: Ledger) -> None:
    """Keep the ledger."""
    access.reports.write(LEDGER, ledger.model_dump_json(indent=1).encode())


def forget(access: Access, names: Iterable[str]) -> None:
    """Note in the ledger that somebody let go of backups and dumps that are gone."""
    ledger = read_ledger(access)
    ledger.forgotten = sorted({*ledger.forgotten, *names})
    write_ledger(access, ledger)
