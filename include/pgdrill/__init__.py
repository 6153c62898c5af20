"""pgdrill: backs up PostgreSQL + pgvector and proves, by restoring, that vector search is right."""

from __future__ import annotations

__version__ = "0.1.0"
