"""The facts of barman-cloud."""

from __future__ import annotations

from pgdrill.tool_facts.model import ToolFacts

FACTS = ToolFacts(
    name="barman-cloud",
    adapter="pgdrill.repository.tools.barman:BarmanCloud",
    program="barman-cloud-backup",
    url_schemes=("s3",),
    compressions=("gzip", "lz4", "none"),
    tried=((3, 19, 1),),
    oldest=(3, 13, 0),
    programs_folder=True,
)
