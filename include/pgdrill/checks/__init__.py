"""The checks, one module for each family. Importing this package registers them all."""

from __future__ import annotations

# The checks of a family are asked, and shown, in the order of these lines.
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

# In the order in which they are asked. Vectors come before the checks that take long. Rows come
# late, because production's counters have to settle first. The family that may write comes last,
# because nothing is compared after it.
FAMILIES = ("recovery", "vectors", "embeddings", "search", "schema", "integrity", "rows", "own")

# For a cluster that somebody else restored. Nothing is installed there, and integrity needs
# amcheck and pg_prewarm, so that it is asked only by name.
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
