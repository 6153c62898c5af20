"""The facts of wal-g."""

from __future__ import annotations

from pgdrill.tool_facts.model import ToolFacts

FACTS = ToolFacts(
    name="wal-g",
    adapter="pgdrill.repository.tools.walg:WalG",
    program="wal-g",
    url_schemes=("s3", "file"),
    # 3.0.8 writes backups with "none" that it can never read again.
    compressions=("lz4", "zstd", "brotli"),
    tried=((3, 0, 8),),
    oldest=(3, 0, 0),
    failures="pgdrill.repository.tools.walg_failures:FAILURES",
)
