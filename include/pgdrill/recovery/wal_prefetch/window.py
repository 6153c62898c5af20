"""The window of segments to be fetched next.

It knows where recovery is, what lies ready, what is on its way, and what stops the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_BLOCKED = 1000


@dataclass(slots=True)
class Window:
    """Segment numbers, from the one that recovery wants next to ``ahead`` further.

    With ``ahead`` 0, only what recovery waits for. ``last`` None: unknown. A number in ``blocked``
    (absent, or not to be had) ends the way: recovery cannot pass it.
    """

    position: int
    last: int | None
    ahead: int
    ready: set[int] = field(default_factory=set)
    busy: set[int] = field(default_factory=set)
    blocked: set[int] = field(default_factory=set)
    waits_for: int = -1

    def next(self, count: int = 1) -> list[int]:
        """Return the first number that nobody has begun, and up to ``count`` in all without a gap.

        Marks them busy.
        """
        found: list[int] = []
        end = max(self.position + self.ahead - 1, self.waits_for)
        for number in range(
            self.position, min(end, self.last if self.last is not None else end) + 1
        ):
            if number in self.blocked or len(found) == count:
                break
            if number in self.ready or number in self.busy:
                if found:
                    break
                continue
            if (
                number != self.position
                and len(self.ready) + len(self.busy) + len(found) >= self.ahead
            ):
                break  # recovery went back: what lies further on still takes room
            found.append(number)
        self.busy.update(found)
        return found

    def wanted(self, number: int) -> None:
        """Note that recovery waits for this one.

        It may have gone back, or beyond what was expected to be the last.
        """
        self.position = self.waits_for = number
        self.blocked.discard(number)
        if self.last is not None:
            self.last = max(self.last, number)

    def taken(self, number: int) -> None:
        """Note that recovery has a segment now."""
        self.ready.discard(number)
        self.position = number + 1

    def done(self, number: int, *, ready: bool) -> None:
        """Note that a segment is in the spool, or not to be had."""
        self.busy.discard(number)
        if number == self.waits_for:
            self.waits_for = -1
        if len(self.blocked) >= MOST_BLOCKED:  # no recovery asks for so many
            self.blocked.clear()
        (self.ready if ready else self.blocked).add(number)

    def postpone(self, number: int) -> None:
        """Put off a segment that there was no room for: no further than this from now on."""
        self.busy.discard(number)
        self.ahead = max(1, number - self.position)
