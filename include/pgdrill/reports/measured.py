"""The figure of an answer, as people read it: with its unit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgdrill.reports.model import CheckResult

# Check -> how the figure of a pass is said. A check with two kinds of answers is named with what
# was wanted.
UNITS = {
    "measured-rpo": "{} s",
    "rto": "{} s",
    "clock-difference": "{} s",
    "timeline": "timeline {}",
    "harmless": "{} looks",
    "vector-values": "{} vectors",
    "vector-content": "{} vectors",
    "exact-neighbours": "{} probes",
    "index-recall": "recall@10 {}",
    "vector-indexes": "{} indexes",
    "search-settings": "{} settings",
    "filtered-search loss": "recall@10 {}",
    "filtered-search rows": "{} rows",
    "canary": "{} rows re-embedded",
    "stale-text": "{} rows re-embedded",
    "index-coverage": "{} rows",
    "index-values": "{} rows",
    "databases": "{} databases",
    "collations": "{} collations in use",
    "catalogs": "{} objects compared",
    "invalid-indexes": "{} invalid",
    "access-methods": "{} rows searched by their values",
    "sequence-positions": "{} sequences",
    "table-content": "{} rows in all",
    "state-tables": "{} rows",
    "application-test": "exit code {}",
    "relation-files": "{} relations",
    "page-checksums": "{} relations",
    "amcheck": "{} relations",
    "server-version": "version {}",
    "extension-libraries": "version {}",
    "extension-versions": "version {}",
    "dump-extensions": "version {}",
    "dump-rows": "{} rows in all",
    "dump-large-objects": "{} large objects",
    "dump-sequences": "{} sequences",
    "dump-definitions": "{} objects compared",
    "dump-roles": "{} statements",
}
SINGULAR = {
    "{} indexes": "1 index",
    "{} rows": "1 row",
    "{} vectors": "1 vector",
    "{} settings": "1 setting",
    "{} looks": "1 look",
    "{} sequences": "1 sequence",
    "{} databases": "1 database",
    "{} collations in use": "1 collation in use",
    "{} relations": "1 relation",
    "{} large objects": "1 large object",
    "{} statements": "1 statement",
    "{} objects compared": "1 object compared",
    "{} rows in all": "1 row in all",
}
COUNTED = re.compile(r"^.*: (\d+) relations$")  # the thing itself says how many
# checks whose figure is the text of a version
VERSIONS = frozenset(name for name, unit in UNITS.items() if unit == "version {}")
END = re.compile(r"^(?:[,;:] |$)")


def figure(value: float | int | str | None) -> str:
    """Return a bare figure: four digits, and no minus before nothing."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{round(value, 4) + 0.0:g}" if abs(value) < 1e5 else f"{value:.0f}"
    return str(value)


def in_words(result: CheckResult) -> str:
    """Return an answer as a line of a log.

    Such a line is ``pass index-recall: items.v (items_v): recall@10 1 (no loss on 50 same
    probes)``.
    """
    value, message = figure(result.value), result.message
    if result.status == "pass" and isinstance(result.value, int | float):
        value = said(result.name, result.thing, value, result.threshold)
        message = without_unit(result.name, message, result.threshold)
    measured = f"{value} ({message})" if value and message else value or message
    wanted = (
        f", wanted {result.threshold}"
        if result.threshold and result.status in ("fail", "warn")
        else ""
    )
    return ": ".join(
        filter(None, (f"{result.status} {result.name}", result.thing, f"{measured}{wanted}"))
    )


def unit_of(check: str, threshold: str) -> str:
    """Return how a figure of that check is said; ``{}`` stands for the figure."""
    return UNITS.get(check) or UNITS.get(f"{check} {threshold.partition(' ')[0]}", "{}")


def said(check: str, thing: str, shown: str, threshold: str) -> str:
    """Return a pass's figure with its unit, or ``all`` where the thing has the same count."""
    counted = COUNTED.match(thing)
    if counted and counted[1] == shown:
        return "all"
    if shown == "1" and unit_of(check, threshold) in SINGULAR:
        return SINGULAR[unit_of(check, threshold)]
    return unit_of(check, threshold).format(shown)


def without_unit(check: str, message: str, threshold: str) -> str:
    """Return the message of a pass less the unit, with which many begin."""
    noun = unit_of(check, threshold).replace("{}", "").strip()
    rest = message.removeprefix(noun) if noun else message
    return rest.lstrip(",;: ") if END.match(rest) else message
