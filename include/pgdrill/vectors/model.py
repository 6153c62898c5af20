"""The record of a vector column in the baseline: figures, places and keyed hashes.

It holds no vector and no row.
"""

from __future__ import annotations

from pydantic import Field

from pgdrill.documents import StrictModel


class NormState(StrictModel):
    """Lengths of the stable vectors."""

    lowest: float
    mean: float
    highest: float
    deviation: float


class Contents(StrictModel):
    """The figures of a column that was read whole."""

    rows: int
    nulls: int
    sizes: dict[int, int]  # dimensions -> vectors
    broken: int
    zeros: int
    copies: int  # vectors that equal another one
    # of the rows that were written before the horizon:
    stable: int
    digest: str
    norms: NormState | None


class Answers(StrictModel):
    """The answers to the probes, in their order."""

    # the places and distances of its exact neighbours among stable rows
    neighbours: list[list[str]] = Field(default_factory=list)
    distances: list[list[float]] = Field(default_factory=list)
    # so many of the wanted neighbours the index found; both are empty where production was not
    # read whole
    hits: list[int] = Field(default_factory=list)
    wanted: list[int] = Field(default_factory=list)
    # the index's distances, where production was not read whole
    found: list[list[float]] = Field(default_factory=list)


class IndexState(StrictModel):
    """An index as PostgreSQL would make it again."""

    oid: int
    name: str
    definition: str
    options: list[str]
    valid: bool


class SearchState(StrictModel):
    """A search through an index, or without one, probe by probe."""

    index: str  # empty without one
    operator: str
    probes: list[tuple[str, str]]  # place ``(block,line)/xmin`` and keyed hash
    whole: Answers
    filtered: Answers | None = None
    warm_ms: float | None = None
    used: bool = False  # the planner takes the index of its own accord
    made_anew: bool = False  # after the snapshot, before it was searched


class VectorState(StrictModel, frozen=False):
    """One vector column of a table."""

    oid: int  # the table's
    number: int = 0  # the column's in its table; 0 in records from before it was kept
    kind: str
    dimensions: int | None
    label: str
    filter_column: str = ""
    filter_settings: list[str] = Field(default_factory=list)
    row_security: bool = False
    tenant_roles: list[str] = Field(default_factory=list)
    indexes: list[IndexState] = Field(default_factory=list)
    contents: Contents | None = None  # None where the table was too large to read
    searches: list[SearchState] = Field(default_factory=list)
    trouble: str = ""  # why nothing is known
    # somebody's function that a search would run with our rights: then no search was made
    code: str = ""
