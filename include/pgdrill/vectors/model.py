"""What is remembered of a vector column, as part of the baseline: figures, places and keyed hashes,
no vector and no row.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of the baseline as JSON."""

    model_config = ConfigDict(extra="forbid")


class NormState(Part):
    """Lengths of the stable vectors."""

    lowest: float
    mean: float
    highest: float
    deviation: float


class Contents(Part):
    """A column read whole. ``stable``, ``digest`` and ``norms`` are of rows that were written
    before the horizon.

    ``sizes``: dimensions -> vectors. ``copies``: vectors that equal another one.
    """

    rows: int
    nulls: int
    sizes: dict[int, int]
    broken: int
    zeros: int
    copies: int
    stable: int
    digest: str
    norms: NormState | None


class Answers(Part):
    """Of each probe, in their order: its exact neighbours among stable rows (place, distance), and
    what the index found.

    ``hits`` of ``wanted`` neighbours were found by the index; both are empty where production was
    not read whole, and ``found`` holds the index's distances instead.
    """

    neighbours: list[list[str]] = []
    distances: list[list[float]] = []
    hits: list[int] = []
    wanted: list[int] = []
    found: list[list[float]] = []


class IndexState(Part):
    """An index as PostgreSQL would make it again."""

    oid: int
    name: str
    definition: str
    options: list[str]
    valid: bool


class SearchState(Part):
    """A search through an index (or without one: empty ``index``), probe by probe: place
    ``(block,line)/xmin`` and keyed hash.

    ``used``: the planner takes the index of its own accord.
    """

    index: str
    operator: str
    probes: list[tuple[str, str]]
    whole: Answers
    filtered: Answers | None = None
    warm_ms: float | None = None
    used: bool = False


class VectorState(Part):
    """One vector column of the table ``oid``.

    ``contents`` is None where the table was too large to read; ``trouble`` says why nothing is
    known.

    ``number`` is the column's in its table; 0 in records from before it was kept. ``code`` names
    somebody's function that a search would run with our rights: then none was made.
    """

    oid: int
    number: int = 0
    kind: str
    dimensions: int | None
    label: str
    filter_column: str = ""
    filter_settings: list[str] = []
    row_security: bool = False
    tenant_roles: list[str] = []
    indexes: list[IndexState] = []
    contents: Contents | None = None
    searches: list[SearchState] = []
    trouble: str = ""
    code: str = ""
