"""The libraries that a restored server may preload: only those known to do nothing by themselves.

Whatever is preloaded runs in the postmaster and may start processes that listen, take snapshots or
run jobs. So what is not known is left out, and what needs it in the restored data is not asked, by
name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

SETTINGS = ("shared_preload_libraries", "session_preload_libraries", "local_preload_libraries")

# As looked up in their sources, these have hooks, settings and shared memory. They have no
# background worker, socket or program, and no statement of their own on a user's relation (which
# keeps pg_hint_plan out: it reads hint_plan.hints in every session).
KNOWN = frozenset(
    {
        # PostgreSQL's own, contrib: hooks that count, log, wait after a wrong password, or look at
        # a new one.
        "pg_stat_statements",
        "auto_explain",
        "auth_delay",
        "passwordcheck",
        # Its worker reads blocks and writes a list of them; settings() turns that off.
        "pg_prewarm",
        # PostgreSQL's own, contrib: functions alone, which loading defines.
        "plpgsql",
        "pg_trgm",
        "pgcrypto",
        "pg_buffercache",
        "btree_gin",
        "btree_gist",
        "citext",
        "cube",
        "hstore",
        "ltree",
        "unaccent",
        # pgvector, pgvectorscale: settings, and options of their access methods.
        "vector",
        "vectorscale",
        # Hooks, and counters in shared memory.
        "pgaudit",
        "pg_qualstats",
        "pg_stat_kcache",
        "pg_stat_monitor",
    }
)


def split(setting: str) -> list[str]:
    """Return the names in a list of libraries."""
    return [name.strip().strip('"') for name in setting.split(",") if name.strip()]


def plain(name: str) -> str:
    """Return a library's name as ``CREATE EXTENSION`` and people know it.

    One in another folder keeps its path.
    """
    return name.removeprefix("$libdir/plugins/").removeprefix("$libdir/").removesuffix(".so")


def may_load(name: str, allowed: Collection[str]) -> bool:
    """Return True if a library does nothing by itself, or ``drill.allowed_libraries`` has it.

    Only known ones are taken for harmless.
    """
    return plain(name) in KNOWN or bool({name, plain(name)} & set(allowed))


def preloaded(production: str, allowed: Collection[str]) -> str:
    """Return production's ``shared_preload_libraries`` without those that may not be loaded."""
    return ",".join(name for name in split(production) if may_load(name, allowed))


def left_out(settings: Iterable[str], allowed: Collection[str]) -> list[str]:
    """Return the libraries of all these settings that may not be loaded, each once."""
    return list(
        dict.fromkeys(
            plain(name) for one in settings for name in split(one) if not may_load(name, allowed)
        )
    )
