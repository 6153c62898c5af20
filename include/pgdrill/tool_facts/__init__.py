"""The backup tools that pgdrill knows: the registry, and what is to be known of each beforehand.

The configuration is checked against it, whenever Airflow reads a DAG file: nothing heavy is
imported here. The adapters are in :mod:`pgdrill.repository.tools`.
"""

from __future__ import annotations

from pgdrill.tool_facts import barman, pgbackrest, walg
from pgdrill.tool_facts.model import ToolFacts, Version

__all__ = ["DEFAULT_TOOL", "TOOLS", "ToolFacts", "Version", "all_compressions", "misfit"]

# To register a tool is one line here.
TOOLS: dict[str, ToolFacts] = {
    facts.name: facts for facts in (walg.FACTS, barman.FACTS, pgbackrest.FACTS)
}
DEFAULT_TOOL = walg.FACTS.name


def all_compressions() -> tuple[str, ...]:
    """Return the compressions that any of the tools can write, each once."""
    return tuple(dict.fromkeys(one for facts in TOOLS.values() for one in facts.compressions))


def misfit(tool: str, url: str, compression: str, endpoint_url: str = "") -> str:
    """Return what a tool cannot do of a repository's settings, or an empty string."""
    facts, scheme = TOOLS[tool], url.partition(":")[0]
    if scheme not in facts.url_schemes:
        others = [one.name for one in TOOLS.values() if scheme in one.url_schemes]
        return (
            f"{tool} keeps backups in {' or '.join(f'{one}://' for one in facts.url_schemes)} only;"
            f" choose {' or '.join(others)} or an {facts.url_schemes[0].upper()} url"
        )
    if facts.https_only and endpoint_url.startswith("http:"):
        return (
            f"{tool} speaks https alone to a store, and endpoint_url is {endpoint_url}; give the"
            " store a certificate, or choose another tool"
        )
    if compression and compression not in facts.compressions:
        return (
            f"{tool} cannot use compression {compression!r}; choose {', '.join(facts.compressions)}"
        )
    return ""
