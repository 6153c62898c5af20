"""The checks, a module a family. Importing this package registers them all."""

from __future__ import annotations

from pgdrill.checks import (
    coverage,
    embeddings,
    host,
    index_values,
    integrity,
    own,
    positions,
    recovery,
    rows,
    schema,
    searching,
    state,
    tenants,
    vectors,
)
from pgdrill.checks.base import CHECKS, Check, Context, Outcome, run_checks

# In the order of the clock: vectors before what takes long, and rows late, for production's counters have to settle first.
# Last what may write: nothing is compared after it.
FAMILIES = ("recovery", "vectors", "embeddings", "search", "schema", "integrity", "rows", "own")

# On a cluster that somebody else restored nothing is installed, and integrity needs amcheck and pg_prewarm there: it is
# asked by name.
FOREIGN_FAMILIES = tuple(family for family in FAMILIES if family != "integrity")

__all__ = [
    "CHECKS", "FAMILIES", "FOREIGN_FAMILIES", "Check", "Context", "Outcome", "coverage", "embeddings", "host", "index_values",
    "integrity", "own", "positions", "recovery", "rows", "run_checks", "schema", "searching", "state", "tenants", "vectors",
]  # fmt: skip
