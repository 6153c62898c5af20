"""Documents that lie in a bucket are somebody's word.

Every value that is used has bounds, and no JSON can do harm.

Whoever may write objects there may forge them all. So a document is small enough for the memory
before it is read, is JSON without tricks (depth, keys twice, NaN, endless numbers), and gives
numbers, times and names that PostgreSQL itself could have given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from pgdrill.errors import PgdrillError

DOCUMENT_BYTES = 64 * 2**20
SMALL_DOCUMENT_BYTES = 2**16  # a hold, or a few marks of one thing
DESCRIPTION_BYTES = 16 * 2**20  # of one base backup, as its tool wrote it
LARGE_DOCUMENT_BYTES = 256 * 2**20  # what names every file of a cluster, or holds rows' digests
NUMBER_DIGITS = 400  # a float's largest has 309
NAME_BYTES = 1024  # the longest key of an object in S3
# half of what PostgreSQL could count: with it, differences and numpy's numbers never overflow
LSN_END = 2**63
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

# the content of an object: None if there is none, an error where it is too large to be read
Content = bytes | PgdrillError | None
Kind = TypeVar("Kind", bound=BaseModel)


def _believable(instant: datetime) -> datetime:
    if not EARLIEST <= instant <= LATEST:
        raise ValueError(
            f"{instant.isoformat()} is no time between {EARLIEST.year} and {LATEST.year}"
        )
    return instant.astimezone(UTC)


def _posix_name(path: str) -> str:
    if len(path.encode(errors="replace")) > NAME_BYTES or "\0" in path:
        raise ValueError("no path: too long, or with a NUL")
    return path


Lsn = Annotated[int, Field(ge=0, lt=LSN_END)]
LsnText = Annotated[str, Field(pattern="^([0-9A-F]{1,8}/[0-9A-F]{1,8})?$")]
Bytes = Annotated[int, Field(ge=0, le=2**60)]
Timeline = Annotated[int, Field(ge=1, lt=2**32)]
SystemIdentifier = Annotated[int, Field(ge=1, lt=2**64)]
ServerVersion = Annotated[int, Field(ge=80000, lt=1000000)]  # 180006 of 18.6
Instant = Annotated[AwareDatetime, AfterValidator(_believable)]
Oid = Annotated[
    str,
    Field(pattern=r"^[1-9][0-9]{0,9}$"),
    AfterValidator(lambda oid: str(whole_number(oid, 1, 2**32 - 1))),
]
Location = Annotated[str, AfterValidator(_posix_name)]  # on another host: shown, never used


class StrictModel(BaseModel):
    """A document of pgdrill, or a part of one: no unknown field, and nobody writes to it.

    Read from an object (:func:`read_model`), a number is no string and a string no number. A
    document that somebody builds step by step says ``frozen=False``, one that later versions may
    add to ``extra="ignore"``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class ToolDocument(StrictModel, extra="ignore"):
    """A document of a backup tool. Fields that pgdrill does not use may be whatever they are."""


def whole_number(text: str, low: int, high: int) -> int:
    """Return a number from its ASCII digits.

    Raises ValueError for anything else, and for one beyond the bounds.
    """
    if not re.fullmatch(r"[0-9]{1,20}", text) or not low <= int(text) <= high:
        raise ValueError(f"{text[:40]!r} is no number from {low} to {high}")
    return int(text)


def load_json(content: Content) -> Any:
    """Parse the JSON of an object.

    Raises ValueError, in plain words, for what is none or was made to do harm.
    """
    if isinstance(content, PgdrillError):
        raise ValueError(content.problem.found)  # noqa: TRY004 - of the document
    if not content:
        raise ValueError("no such object" if content is None else "an empty object")
    try:
        return json.loads(
            content,
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_int=_int,
            parse_float=_float,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("no text") from None


def read_model(kind: type[Kind], content: Content) -> Kind:
    """Read a document by its model. Raises ValueError that names the first field that is wrong."""
    data = load_json(content)
    if issubclass(kind, ToolDocument):
        return as_model(kind, data)
    assert isinstance(content, bytes)  # noqa: S101 - load_json took it
    return _named(lambda: kind.model_validate_json(content, strict=True))


def as_model(kind: type[Kind], data: Any) -> Kind:
    """Read what a tool wrote, and was loaded, by its model; a number may be a string of digits.

    Raises ValueError as :func:`read_model` does.
    """
    return _named(lambda: kind.model_validate(data))


def _named(read: Callable[[], Kind]) -> Kind:
    try:
        return read()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step)[:60] for step in first["loc"]) or "the document"
        raise ValueError(f"{where}: {first['msg']}"[:300]) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key twice: {_twice(key for key, _ in pairs)[:60]!r}")
    return found


def _twice(keys: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _int(digits: str) -> int:
    if len(digits) > NUMBER_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > NUMBER_DIGITS or (value := float(digits)) in (float("inf"), float("-inf")):
        raise ValueError("a number too large")
    return value
