"""Preload libraries: would production's configuration start on this host?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.checks.left_out import hint, needing
from pgdrill.postgres.libraries import SETTINGS, may_load, plain, split

SHOWN = 10
# The path where the server looks for a plain name, and the folder that ``$libdir`` stands for.
PLACES = """
SELECT current_setting('dynamic_library_path'),
       (SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR')
"""


@check(
    "preload-libraries",
    "recovery",
    passing="every library that production preloads is installed here and can be loaded",
    hint=(
        "install the package that brings it, in production's version; without it a recovery on this"
        " host does not start"
    ),
    example="pg_cron (shared_preload_libraries): no such file, wanted installed",
)
def preload_libraries(context: Context) -> Iterator[Outcome]:
    """Load each library that production preloads into a connection of its own.

    A library that may act by itself is kept out of a drill, and only looked for.
    """
    known = context.production or context.baseline
    if known is None:
        yield not_asked(
            "libraries", "production was not looked at: which ones it preloads is unknown"
        )
        return
    if context.prepare is None:
        yield not_asked(
            "libraries", "not restored by pgdrill: nothing is loaded into somebody else's server"
        )
        return
    names = [
        (name, setting) for setting in SETTINGS for name in split(known.settings.get(setting, ""))
    ]
    for name, setting in names:
        thing = f"{name} ({setting})"
        with context.system() as connection:
            if not _file_exists(connection, name, local=setting == "local_preload_libraries"):
                yield Outcome("fail", thing, "no such file", "installed")
                continue
        if not may_load(name, context.cluster.drill.allowed_libraries):
            yield not_asked(thing, f"installed, and not loaded: {_why(context, plain(name))}")
            continue
        yield _loaded(context, name, thing, setting)
    if not names:
        yield Outcome("pass", "libraries", "none", "as in production")


def _why(context: Context, library: str) -> str:
    """Return words for why a library is not loaded, and what is not judged without it."""
    tables = needing(context).tables.get(library, [])
    more = f" and {len(tables) - SHOWN} more" if len(tables) > SHOWN else ""
    shown = f"; not judged without it: {', '.join(tables[:SHOWN])}{more}" if tables else ""
    return f"{hint(library)}{shown}"


def _loaded(context: Context, name: str, thing: str, setting: str) -> Outcome:
    path = (
        f"$libdir/plugins/{name}"
        if setting == "local_preload_libraries" and "/" not in name
        else name
    )
    try:
        with context.system() as connection:
            connection.execute(sql.SQL("LOAD {}").format(sql.Literal(path)))
    except psycopg.Error as error:
        return Outcome(
            "fail", thing, "cannot be loaded", "loaded", str(error).strip().splitlines()[0]
        )
    return Outcome("pass", thing, "loaded", "loaded")


def _file_exists(connection: psycopg.Connection, name: str, *, local: bool) -> bool:
    """Return True if a library's file exists where the server looks for it.

    It looks in dynamic_library_path, where ``$libdir`` is its own folder, with or without .so.
    """
    row = connection.execute(PLACES).fetchone()
    path, libdir = (row[0], row[1]) if row else ("$libdir", "")
    if local and "/" not in name:
        name = f"$libdir/plugins/{name}"
    whole = [name] if "/" in name else [f"{folder}/{name}" for folder in path.split(":")]
    files = [one.replace("$libdir", libdir) + ending for one in whole for ending in ("", ".so")]
    found = connection.execute(
        "SELECT bool_or((pg_stat_file(f, true)).size IS NOT NULL) FROM unnest(%s::text[]) f",
        (files,),
    ).fetchone()
    return bool(found and found[0])
