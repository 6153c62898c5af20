"""The spec of a fence: what it lets through, handed as JSON to the program that makes it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Spec(NamedTuple):
    """The kind of a fence, and the paths that it lets through. Paths are absolute.

    Kinds are namespaces, landlock, none (``uid`` alone), and for tools that only must not write
    elsewhere: writes (Landlock) and mounts (a read-only file system).
    """

    kind: str
    writable: tuple[str, ...]
    readable: tuple[str, ...] = ()
    root: str = ""  # an empty folder on which the new file system is put together
    uid: int | None = None  # the user to become

    def to_json(self) -> str:
        """Return the spec as text for an argument: it holds paths and no secret."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Return the spec that :meth:`to_json` made into text."""
        values: dict[str, Any] = json.loads(text)
        return cls(
            values["kind"],
            tuple(values["writable"]),
            tuple(values["readable"]),
            values["root"],
            values["uid"],
        )
