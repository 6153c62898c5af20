"""What several checks look at, read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgdrill.reports.model import Compared, Share

if TYPE_CHECKING:
    from pgdrill.checks.columns import Look
    from pgdrill.checks.left_out import Needing
    from pgdrill.vectors.embedders import Embedder
    from pgdrill.vectors.index_pages import Indexed
    from pgdrill.vectors.observation import Searched

IndexKey = tuple[str, int]  # the database, and the index's oid


@dataclass
class Cache:
    """What is known until now; None: nobody has read it yet."""

    columns: list[Look] | None = None  # the vector columns
    looking_seconds: float | None = None  # that looking at all of them took
    cold_ms: dict[IndexKey, float] = field(default_factory=dict)  # the first search of an index
    pages: dict[IndexKey, Indexed] = field(default_factory=dict)  # what an index's pages hold
    rows: dict[IndexKey, Indexed] = field(default_factory=dict)  # what they have to hold
    vacuumed: dict[IndexKey, Searched | None] = field(default_factory=dict)  # searched after it
    embedder: Embedder | None = None
    needing: Needing | None = None
    outlived: set[tuple[str, int]] = field(default_factory=set)  # database and oid of a table
    compared: Compared | None = None  # the shares of the tables whose rows were asked about

    def add_compared(self, share: Share, not_proven: str = "") -> None:
        """Add a table's share to what was compared."""
        if self.compared is None:
            self.compared = Compared()
        self.compared.add(share, not_proven)
