"""The checks, a module a family. Importing this package registers them all."""

from __future__ import annotations

# Checks of a family are asked, and shown, in the order of these lines.
# isort: off
from pgdrill.checks import (
    index_coverage,
    embeddings,
    server,
    index_values,
    integrity,
    custom,
    sequence_positions,
)
from pgdrill.checks import recovery, tables, schema, search_plans, state_tables, tenants, vectors

# isort: on
from pgdrill.checks.base import CHECKS, Check, Context, Outcome, run_checks

# In the order of the clock: vectors before what takes long, and rows late, for production's
# counters have to settle first. Last what may write: nothing is compared after it.
FAMILIES = ("recovery", "vectors", "embeddings", "search", "schema", "integrity", "rows", "own")

# On a cluster that somebody else restored nothing is installed, and integrity needs amcheck and
# pg_prewarm there: it is asked by name.
FOREIGN_FAMILIES = tuple(family for family in FAMILIES if family != "integrity")

__all__ = [
    "CHECKS",
    "FAMILIES",
    "FOREIGN_FAMILIES",
    "Check",
    "Context",
    "Outcome",
    "custom",
    "embeddings",
    "index_coverage",
    "index_values",
    "integrity",
    "recovery",
    "run_checks",
    "schema",
    "search_plans",
    "sequence_positions",
    "server",
    "state_tables",
    "tables",
    "tenants",
    "vectors",
]
