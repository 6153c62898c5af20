"""The order a drill gives to its prefetcher: which WAL, from where, how far ahead.

JSON, without any secret.

Secrets (and the repository's address, as the tool wants it) are in the process's environment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pgdrill.postgres.wal import Segment, TimelineSwitch, segment_choices
from pgdrill.repository.wal_keys import WalKeys


@dataclass(frozen=True, slots=True)
class ToolWords:
    """The command by which the tool fetches one file (``%f`` to ``%p``), or many, where it can.

    In ``environment``, the variables of the former, ``{into}`` is a folder of its own. In ``bulk``
    and its environment ``{before}`` is the name of the segment before the first wanted one,
    ``{count}`` how many, ``{into}`` a folder; the files then lie in ``bulk_folder`` below that.
    """

    name: str
    fetch: tuple[str, ...]
    absent_code: int
    exit_codes: Mapping[int, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    bulk: tuple[str, ...] = ()
    bulk_environment: Mapping[str, str] = field(default_factory=dict)
    bulk_folder: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """Everything the prefetcher has to know.

    ``stop_lsn`` None: the target's place is known to the WAL alone.
    """

    spool: str
    incoming: str  # a folder of the same file system that the restored server does not see
    url: str
    endpoint_url: str
    region: str
    keys: WalKeys
    names: str  # pattern of their last parts; its first group is the file's name
    suffix: str  # the likeliest one
    readable: bool  # False: encrypted, so that the tool has to fetch everything
    tool: ToolWords
    system_identifier: int
    major_version: int
    segment_bytes: int
    start_lsn: int
    stop_lsn: int | None
    timeline: int
    history: tuple[TimelineSwitch, ...]
    ahead_segments: int = 64  # 0: each when recovery asks for it
    # every n-th segment is fetched by the tool as well, and compared; 0: none
    tool_sample: int = 50
    sparse: bool = True
    owner: int | None = None  # the user the restored server runs as, if that is another one

    def to_json(self) -> str:
        """Return the order as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Read the order that :meth:`to_json` made."""
        values: dict[str, Any] = json.loads(text)
        tool = values.pop("tool")
        codes = {int(code): meaning for code, meaning in tool.pop("exit_codes").items()}
        words: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in tool.items()
        }
        history = tuple(TimelineSwitch(**line) for line in values.pop("history"))
        keys = WalKeys(**values.pop("keys"))
        words["exit_codes"] = codes
        return cls(**values, keys=keys, tool=ToolWords(**words), history=history)

    @property
    def first(self) -> int:
        """The number of the segment where replay begins."""
        return self.start_lsn // self.segment_bytes

    @property
    def last(self) -> int | None:
        """The number of the segment in which the target lies, or None where that is not known."""
        return (
            None
            if self.stop_lsn is None
            else max(self.stop_lsn - 1, self.start_lsn) // self.segment_bytes
        )

    @property
    def timelines(self) -> frozenset[int]:
        """The timelines on the way to the target.

        Empty where the target's has ancestors that were not looked up.
        """
        if self.timeline > 1 and not self.history:
            return frozenset()
        return frozenset({self.timeline, *(line.timeline for line in self.history)})

    def choices(self, number: int) -> tuple[Segment, ...]:
        """Return the files that will do for a segment, best first."""
        return segment_choices(number, self.timeline, self.history, self.segment_bytes)

    def key(self, name: str) -> str:
        """Return the object of a segment or history file, without its suffix."""
        return self.keys.of(name)

    def is_sample(self, number: int) -> bool:
        """Return whether the tool fetches this segment, too.

        It fetches the first, the last, and every n-th between them.
        """
        if not self.tool_sample:
            return False
        return (number - self.first) % self.tool_sample == 0 or number == self.last
