"""The checks, a module a family. Importing this package registers them all."""

from __future__ import annotations

from pgdrill.checks import embeddings, integrity, recovery, rows, schema, vectors
from pgdrill.checks.base import CHECKS, Check, Context, Outcome, run_checks

FAMILIES = ("recovery", "vectors", "embeddings", "schema", "rows", "integrity")  # in the order of the clock: vectors before what takes long

__all__ = ["CHECKS", "FAMILIES", "Check", "Context", "Outcome", "embeddings", "integrity", "recovery", "rows", "run_checks", "schema", "vectors"]
