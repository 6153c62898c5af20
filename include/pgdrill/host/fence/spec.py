"""What a fence lets through, handed to the program that makes it as JSON."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Spec(NamedTuple):
    """``kind``: namespaces, landlock, none (``uid`` alone), and for tools that only must not write
    elsewhere: writes (Landlock) and mounts (a read-only file system). Paths are absolute; ``uid``:
    the user to become.

    ``root`` is an empty folder on which the new file system is put together.
    """

    kind: str
    writable: tuple[str, ...]
    readable: tuple[str, ...] = ()
    root: str = ""
    uid: int | None = None

    def to_json(self) -> str:
        """For an argument: it holds paths and no secret."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """What :meth:`to_json` made."""
        values: dict[str, Any] = json.loads(text)
        return cls(
            values["kind"],
            tuple(values["writable"]),
            tuple(values["readable"]),
            values["root"],
            values["uid"],
        )
