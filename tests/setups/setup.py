"""A set-up: what an ordinary server, client or store is like, and what pgdrill has to make of
it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tests.setups.host import Host

Job = Literal["backup", "drill", "dump", "dump's drill"]


def nothing(_: Host) -> None:
    """Leave the host as it is."""


def everywhere() -> bool:
    """It can be made on this machine."""
    return True


@dataclass(frozen=True)
class Answer:
    """The job that ends with an error, its reason, words that it says, and words of the hint."""

    job: Job
    reason: str
    words: str
    hint: str


@dataclass(frozen=True)
class Setup:
    """One of the full set.

    ``{home}``, ``{address}`` (of TCP) and ``{include}`` (of the library) may stand in values of
    ``config``, ``environment`` and ``within``; None takes a variable away. Of ``answer``, None: it
    works. ``red`` are the examinations of doctor that say so beforehand, the first of which has the
    answer's words, and ``warns`` those that warn; ``why`` says why doctor's word and the job's
    differ, where they do.
    """

    family: str
    name: str
    tool: str = "wal-g"
    postgres: str = "18"
    initdb: tuple[str, ...] = ()
    segment_megabytes: int = 16
    options: Mapping[str, str] = field(default_factory=dict)  # of the server
    before: Callable[[Host], None] = nothing  # its first start
    sql: tuple[str, ...] = ()  # a superuser's, in the database agents
    after: Callable[[Host], None] = nothing
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # likewise, made when the server has been set up
    mistakes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, str | None] = field(default_factory=dict)
    bare: bool = False  # the commands see nothing of whoever runs the tests, not even HOME
    within: tuple[str, ...] = ()  # words before each command, the command's own being "$@"
    folder: str = ""  # in which all of it lies
    port: int = 5432
    debian: str = ""  # Debian's own cluster in place of ours: how one signs in there
    jobs: tuple[str, ...] = ()  # doctor is asked for these alone
    dump: bool = False
    backups: int = 1  # before the drill
    answer: Answer | None = None
    red: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    foretold: str = ""  # doctor's words where they are others than the answer's
    why: str = ""
    here: Callable[[], bool] = everywhere

    def __str__(self) -> str:
        return f"{self.family}: {self.name}, {self.tool}, PostgreSQL {self.postgres}"
