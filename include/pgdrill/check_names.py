"""The names that checks have, for whoever must know them without loading the checks: the configuration is read every
thirty seconds by Airflow. A test holds this list against the registry.
"""

from __future__ import annotations

CHECK_NAMES = frozenset({
    "access-methods", "amcheck", "application-test", "canary", "catalogs", "clock-difference", "collations",
    "databases", "dump-definitions", "dump-extensions", "dump-large-objects", "dump-roles", "dump-rows",
    "dump-sequences", "exact-neighbours", "extension-libraries", "extension-versions", "filtered-search", "harmless",
    "heartbeat", "index-coverage", "index-recall", "index-used", "index-values", "instant", "invalid-indexes",
    "measured-rpo", "model-current", "model-label", "own-sql", "page-checksums", "preload-libraries", "promoted",
    "promoted-once", "recovery-leftovers", "relation-files", "rto", "search-latency", "search-settings",
    "sequence-positions", "sequences", "server-log", "server-version", "stale-text", "state-tables", "stray-timeline",
    "system-identifier", "table-content", "target-reached", "timeline", "vector-content", "vector-indexes",
    "vector-values",
})  # fmt: skip
