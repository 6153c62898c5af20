"""The facts of pgBackRest."""

from __future__ import annotations

from pgdrill.tool_facts.model import ToolFacts

FACTS = ToolFacts(
    name="pgbackrest",
    adapter="pgdrill.repository.tools.pgbackrest:PgBackRest",
    program="pgbackrest",
    url_schemes=("s3", "file"),
    compressions=("lz4", "zstd", "gzip", "none"),
    tried=((2, 55, 1),),
    oldest=(2, 41, 0),  # the first with annotations
    failures="pgdrill.repository.tools.pgbackrest_failures:FAILURES",
    https_only=True,
)
