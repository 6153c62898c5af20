"""The errors of pgdrill: each names the thing, what was found, what was expected and the hint.

Whose fault it is decides the verdict and whether a retry can help, so it is the class:

* :class:`BackupFault`: the backup itself is wrong. Verdict *failed*; trying again changes nothing.
* :class:`CouldNotVerify`: drill host, storage, tool or network. Verdict *could not verify*; some
  may be retried.
* :class:`ConfigError`: what a person wrote is wrong; nothing was started.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pgdrill.text import joined, one_line


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in words a person woken at night can act on.

    ``reason`` is a stable word for programs (``missing-part``, ``wal-gap``, ``timeout``, …). The
    others may hold what somebody else named or said: each is one line, and rules no terminal.
    """

    reason: str
    thing: str
    found: str
    expected: str
    hint: str

    def __post_init__(self) -> None:
        for name in ("reason", "thing", "found", "expected", "hint"):
            object.__setattr__(self, name, one_line(joined(str(getattr(self, name)))))

    def __str__(self) -> str:
        return f"{self.thing}: found {self.found}; expected {self.expected}. Hint: {self.hint}"


class PgdrillError(Exception):
    """Base of all errors that pgdrill raises on purpose.

    ``retryable`` alone decides whether a job is tried again.
    """

    retryable = False

    def __init__(self, reason: str, thing: str, *, found: str, expected: str, hint: str) -> None:
        self.problem = Problem(reason, thing, found, expected, hint)
        super().__init__(str(self.problem))


class ConfigError(PgdrillError):
    """The configuration, or an argument a person gave, cannot be used."""


class BackupFault(PgdrillError):
    """The backup, or its WAL, is not what it should be."""


class CouldNotVerify(PgdrillError):
    """Something other than the backup kept the job from finishing."""


class Busy(CouldNotVerify):
    """Another job holds what this one needs, until then at the latest as far as is known.

    Nothing was begun.
    """

    retryable = True

    def __init__(
        self, thing: str, *, found: str, expected: str, hint: str, until: datetime | None = None
    ) -> None:
        super().__init__("busy", thing, found=found, expected=expected, hint=hint)
        self.until = until


class Unreachable(CouldNotVerify):
    """Storage or server did not answer; another try may succeed."""

    retryable = True


class NoKeys(Unreachable):
    """No key opens the store, and no machine's role answers for one, which it may the next time."""


class Gone(Unreachable):
    """Nobody listens where the server should be."""


class Refused(CouldNotVerify):
    """The server is there and does not let in.

    Another password, role, database or certificate is needed.
    """


class StandbyUnreachable(CouldNotVerify):
    """The standby that baselines are read on did not answer. Production itself may be well."""

    retryable = True


class StandbyConflict(CouldNotVerify):
    """Recovery on the standby cancelled what was read there."""

    retryable = True


class Momentary(CouldNotVerify):
    """Something that passes by itself was in the way; another try may succeed."""

    retryable = True


class TimedOut(CouldNotVerify):
    """A step took longer than it may."""


def as_could_not_verify(problem: Problem) -> CouldNotVerify:
    """Return a problem as an error."""
    return CouldNotVerify(
        problem.reason,
        problem.thing,
        found=problem.found,
        expected=problem.expected,
        hint=problem.hint,
    )
