"""The host that restores: is it production's PostgreSQL, with its databases and libraries?

It also has to sort text in the same order.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator

import psycopg
from psycopg import sql

from pgdrill.baseline import CollationState, DatabaseState
from pgdrill.baseline import extension_versions as versions
from pgdrill.baseline.server_facts import database_forms, library_versions, read_collations
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.comparison import databases_there, each_database
from pgdrill.reports.model import CheckStatus


@check(
    "server-version",
    "schema",
    compares=True,
    passing="the restored server is of production's major version",
    hint=(
        "set server.bin_dir to PostgreSQL of production's major version; after a pg_upgrade take a"
        " new baseline"
    ),
    example="server: 17.5, wanted = 18.x",
)
def server_version(context: Context) -> Iterator[Outcome]:
    """Compare the server's version with production's.

    Another minor version reads the same files, and is a warning.
    """
    with context.system() as connection:
        row = connection.execute("SHOW server_version").fetchone()
    found = str(row[0]) if row else ""
    if context.baseline is None:
        yield Outcome("skip", "server", found, message="no baseline to compare with")
        return
    recorded = context.baseline.settings.get("server_version", "")
    same = found.split(".", maxsplit=1)[0] == context.baseline.major_version
    status = "fail" if not same else "pass" if found.split()[0] == recorded.split()[0] else "warn"
    yield Outcome(status, "server", found, f"= {recorded}", proved=True)  # type: ignore[arg-type]


@check(
    "databases",
    "schema",
    compares=True,
    passing=(
        "the restored cluster has the same databases, each with the encoding and locale it has on"
        " production"
    ),
    hint=(
        "a database that is missing or of another form did not come from this backup: see which"
        " cluster writes into the repository"
    ),
    example="agents: LATIN1, C.UTF-8, C.UTF-8, c, wanted UTF8, C.UTF-8, C.UTF-8, c",
)
def databases(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each missing, extra and changed database.

    Without a baseline it looks at least for the configured ones.
    """
    if context.baseline is None or not context.baseline.database_forms:
        missing = sorted(set(context.cluster.server.databases) - databases_there(context))
        for name in missing:
            yield Outcome("fail", name, "no such database", "one of server.databases")
        if not missing:
            yield Outcome("skip", "databases", message="no baseline to compare with")
        return
    context.settle_catalogs()
    before = context.baseline.database_forms
    later = (
        before
        if context.baseline.database_forms_later is None
        else context.baseline.database_forms_later
    )
    with context.system() as connection:
        found = database_forms(connection)
        recent = sql.SQL("SELECT datname FROM pg_database t WHERE {}").format(
            context.baseline.span.holds_writer
        )
        made_meanwhile = {name for (name,) in connection.execute(recent)}
    wrong = 0
    for name in sorted(before.keys() | later.keys() | found.keys()):
        now, allowed = found.get(name), [before.get(name), later.get(name)]
        if now not in allowed and name not in made_meanwhile:
            wrong += 1
            yield Outcome(
                "fail",
                name,
                now or "no such database",
                next((form for form in allowed if form), "no such database"),
                proved=now is not None,
            )
    if not wrong:
        yield Outcome("pass", "cluster", len(found), "all as in production", "databases")


@check(
    "collations",
    "schema",
    compares=True,
    passing=(
        "text sorts here as on production: every collation in use has the recorded version of its"
        " library, and puts the same words in the same order"
    ),
    hint=(
        "indexes and constraints on text may be wrong with this host's libraries: restore on a host"
        " with production's libc and ICU, or REINDEX every index on text there and ALTER DATABASE …"
        " REFRESH COLLATION VERSION before anybody uses it"
    ),
    example=(
        "agents: default: 2.41 (libc here is glibc 2.41: REINDEX), wanted 2.36, as on production"
    ),
)
def collations(context: Context) -> Iterator[Outcome]:
    """Compare the versions of collations and the order of a few hundred words with production's.

    The version says that a library changed; the order says that it matters, whether the version is
    named or not.
    """

    def ask(connection: psycopg.Connection, name: str, state: DatabaseState) -> Iterator[Outcome]:
        found = read_collations(connection)
        wrong = 0
        for collation, before in state.collations.items():
            if outcome := _sorts(
                f"{name}: {collation}",
                before,
                found.get(collation),
                drilled=context.report is not None,
            ):
                wrong += outcome.status == "fail"
                yield outcome
        if not wrong:
            yield Outcome(
                "pass", name, len(state.collations), "sort as on production", "collations in use"
            )

    yield from each_database(context, "collations", ask)


def _sorts(
    thing: str, before: CollationState, now: CollationState | None, *, drilled: bool
) -> Outcome | None:
    """Return an outcome for a collation; None if all is well.

    Only a drill's server (``drilled``) runs on the host that asks.
    """
    here = (
        f"libc here is {' '.join(platform.libc_ver()) or 'unknown'}: REINDEX"
        if drilled
        else "REINDEX"
    )
    if now is None:
        return None  # the catalogs' check names what is missing
    if now.order != before.order:
        return Outcome(
            "fail",
            thing,
            f"sorts otherwise (version {now.actual})",
            f"as on production ({before.actual})",
            here,
            proved=True,
        )
    if now.actual != before.actual:
        return Outcome(
            "fail",
            thing,
            now.actual or "no version",
            f"{before.actual}, as on production",
            here,
            proved=True,
        )
    if now.recorded != now.actual:
        return Outcome(
            "warn",
            thing,
            now.actual or "no version",
            f"{now.recorded}, with which its objects were made",
            "as on production, where REINDEX is due",
        )
    return None


@check(
    "extension-libraries",
    "schema",
    required=False,
    compares=True,
    passing=(
        "the library installed here for every extension is of the version that production has"
        " installed and uses"
    ),
    hint=(
        "install the same packages as production has: another version reads the same index by other"
        " code"
    ),
    example="agents.vector: 0.7.4, wanted = 0.8.1",
)
def extension_libraries(context: Context) -> Iterator[Outcome]:
    """Compare the installed libraries with production's.

    Without a baseline they are compared with the extension's own version.
    """
    there = databases_there(context)
    for name in (name for name in context.databases if name in there):
        with context.system(name) as connection:
            used, installed = versions(connection), library_versions(connection)
        recorded = context.baseline.databases.get(name) if context.baseline else None
        for extension, version in used.items():
            wanted = (recorded.libraries if recorded else {}).get(extension, version)
            found = installed.get(extension)
            status: CheckStatus = "fail" if found is None else "pass" if found == wanted else "warn"
            yield Outcome(
                status, f"{name}.{extension}", found or "not installed", f"= {wanted}", proved=True
            )
