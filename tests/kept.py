"""What the cases of a full set came to: kept as they go along, so that it goes on where it was
stopped, and shown as a page.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import thorough

ROOT = Path(__file__).parents[1]
Values = list[Any]  # those that its row goes by, then figures, then what was wrong or nothing


@dataclass(frozen=True)
class Kept:
    """``found`` holds every case by its name; ``page`` one row for each first ``by`` values, with
    the ``columns`` of its cases.
    """

    found: Path
    page: Path
    head: str
    by: int
    columns: Callable[[list[Values]], Iterable[object]]

    def every(self) -> dict[str, Values]:
        """All that is known of the full set; nothing where only some cases are drawn."""
        known: dict[str, Values] = (
            json.loads(self.found.read_text()) if thorough() and self.found.exists() else {}
        )
        return known

    def settled(self) -> set[str]:
        """The cases that were tried and were not wrong."""
        return {case for case, values in self.every().items() if not values[-1]}

    def wrong(self) -> set[str]:
        """The cases that were wrong when last tried."""
        return {case for case, values in self.every().items() if values[-1]}

    def only(self, tool: str, job: str, there: Collection[str]) -> None:
        """Forget cases of that tool and job that are no longer there."""
        every = self.every()
        self._write(
            {
                case: values
                for case, values in every.items()
                if values[:2] != [tool, job] or case in there
            }
        )

    def there(self, cases: Collection[str]) -> None:
        """Forget those that are no longer there."""
        self._write({case: values for case, values in self.every().items() if case in cases})

    def keep(self, case: str, values: Values) -> None:
        """Add one, and write the page anew."""
        if thorough():
            self._write({**self.every(), case: values})

    def _write(self, every: dict[str, Values]) -> None:
        if not thorough():
            return
        self.found.write_text(
            json.dumps(dict(sorted(every.items())), indent=0, ensure_ascii=False) + "\n"
        )
        groups: dict[tuple[str, ...], list[Values]] = defaultdict(list)
        for values in every.values():
            groups[tuple(values[: self.by])].append(values[self.by :])
        rows = (
            f"| {' | '.join((*key, *map(str, self.columns(cases))))} |\n"
            for key, cases in sorted(groups.items())
        )
        self.page.write_text(self.head + "".join(rows))
