"""The questions to a restored dump: its own, and those of a drill that make sense there.

It tells which were not asked and why.

A logical restore writes every row and catalog entry anew. What tells damage there is the content:
rows, definitions, sequences, large objects, and what vector search finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg

from pgdrill.baseline import extension_versions
from pgdrill.checks import CHECKS, FAMILIES, Context, Outcome, run_checks
from pgdrill.checks.base import Check, Question
from pgdrill.logical import content
from pgdrill.logical.definitions import differences, globals_lines
from pgdrill.logical.manifest import DatabaseDump, Manifest, TableContent
from pgdrill.logical.scratch_cluster import older
from pgdrill.reports.model import CheckResult, Share

FAMILY = "dump"
MOST = 1000  # differences that a report names: each is an answer of its own
NOT_ASKED = "not asked"
# Families that compare with what only a physical restore keeps -> why they are not asked.
PHYSICAL = {
    "recovery": (
        "a dump has no WAL, no recovery target and no recovery point: only base backups are proved"
        " by it"
    ),
    "schema": (
        "compares catalog rows by OID, which a dump gives anew; definitions are compared by"
        " dump-definitions"
    ),
    "rows": (
        "compares rows by their place and writer, which a dump gives anew; content is compared by"
        " dump-rows"
    ),
}
NO_BASELINE = "no baseline"
HARMLESS = CHECKS["harmless"]  # of that family, and asked of every server that pgdrill restores
PASSWORD = re.compile(r" PASSWORD '[^']*'")


@dataclass(frozen=True)
class DumpContext(Context):
    """The things that these checks may look at beside the restored cluster.

    ``definitions`` are read by the target's pg_dump.
    """

    manifest: Manifest | None = None
    definitions: dict[str, dict[str, str]] | None = None
    roles: tuple[str, str] = ("", "")  # pg_dumpall's text: as dumped, as restored
    same_major: bool = True


def ask(context: DumpContext, families: Sequence[str] = FAMILIES) -> Iterator[CheckResult]:
    """Ask about vector search first, then what the dump holds, then the rest.

    There is one answer for each check that was not asked.
    """
    chosen = [family for family in families if family not in PHYSICAL]
    early = [family for family in chosen if family == "vectors"]
    yield from run_checks(context, early, judge=_without_baseline)
    for one in DUMP_CHECKS:
        for result in one.run(context):
            yield result.model_copy(update={"required": result.value != NOT_ASKED})
    with context.closing:
        yield from run_checks(
            context, [family for family in chosen if family not in early], judge=_without_baseline
        )
    yield from HARMLESS.run(context)
    yield from not_asked(families)


def ask_again(context: DumpContext, families: Sequence[str] = FAMILIES) -> Iterator[CheckResult]:
    """Ask, after migrations, what does not compare with the dump."""
    with context.closing:
        yield from run_checks(
            context,
            [family for family in families if family not in PHYSICAL],
            judge=_without_baseline,
        )


def not_asked(families: Sequence[str]) -> Iterator[CheckResult]:
    """Yield an answer for each check that is not asked: nothing is left out silently."""
    for one in CHECKS.values():
        if one.family in PHYSICAL and one.family in families and one is not HARMLESS:
            yield CheckResult(
                name=one.name,
                family=one.family,
                status="skip",
                value=NOT_ASKED,
                required=False,
                message=PHYSICAL[one.family],
            )


def _without_baseline(result: CheckResult) -> CheckResult:
    """Return a skip for want of a baseline as not asked; any other result stays what it is.

    A physical baseline would answer such a question.
    """
    if result.status == "skip" and NO_BASELINE in result.message:
        return result.model_copy(
            update={
                "value": NOT_ASKED,
                "required": False,
                "message": "compares with a base backup's baseline, which a dump does not have",
            }
        )
    return result


def rows(context: Context) -> Iterator[Outcome]:
    """Compare the rows: one answer for each table that differs or could not be compared.

    All tables that agree have one answer together.
    """
    for database, connection in _each(context):
        agreeing = count = 0
        for name, before in database.tables.items():
            answer, found = _compared(connection, database, name, before)
            context.cache.add_compared(_share(before, found))
            if answer.status == "pass" and not before.code:
                agreeing, count = agreeing + 1, count + found
            else:
                yield answer
        if agreeing or not database.tables:
            yield Outcome(
                "pass",
                f"{database.name}: {agreeing} tables",
                count,
                "as in the snapshot",
                "rows in all",
            )
        for name, why in sorted(database.not_dumped.items()):
            yield Outcome("skip", f"{database.name}.{name}", NOT_ASKED, message=why)


def _share(before: TableContent, found: int) -> Share:
    """Return how a table was compared: by its digest, or by its number of rows."""
    if before.digest is not None:
        return Share(exact=before.rows, exact_bytes=before.bytes)
    if before.code:
        return Share.nothing(before.rows, before.bytes)
    return Share(counted=found, counted_bytes=before.bytes)


def _compared(
    connection: psycopg.Connection, database: DatabaseDump, name: str, before: TableContent
) -> tuple[Outcome, int]:
    """Compare a table with what its snapshot held; return the answer and how many rows it has."""
    thing = f"{database.name}.{name}"
    if before.code and before.digest is None:
        return Outcome("skip", thing, NOT_ASKED, message=before.why), 0
    try:
        with connection.transaction():
            found = content.again(connection, name, database.key, before)
    except psycopg.errors.UndefinedTable:
        return Outcome("fail", thing, "no such table", f"{before.rows} rows"), 0
    except KeyError as error:
        return Outcome("fail", thing, f"no column {error}", "every column of the dump"), 0
    except psycopg.Error as error:
        return (
            Outcome(
                "fail",
                thing,
                type(error).__name__,
                "readable to the end",
                str(error.diag.message_primary)[:300],
            ),
            0,
        )
    return _beside(thing, before, found), found.rows


def _beside(thing: str, before: TableContent, found: TableContent) -> Outcome:
    by_copy = f"by COPY alone, for on production {before.code}" if before.code else ""
    if found.rows != before.rows:
        return Outcome("fail", thing, found.rows, f"{before.rows} rows", by_copy)
    if before.digest is None:
        return Outcome(
            "warn", thing, found.rows, f"{before.rows} rows", f"content not compared: {before.why}"
        )
    if before.columns and found.digest != before.digest:
        return Outcome(
            "fail",
            thing,
            "other content",
            "the content of the dump's snapshot",
            f"{found.rows} rows",
        )
    return Outcome("pass", thing, found.rows, "as in the snapshot", by_copy)


def large_objects(context: Context) -> Iterator[Outcome]:
    """Compare large objects by number and content.

    ``pg_dump --extension=…`` would have left them all out, and said nothing.
    """
    for database in _databases(context):
        # their pages are a catalog's, and a superuser's to read
        with context.system(database.name) as connection:
            before = database.large_objects
            found = content.read_large_objects(connection, database.key)
        same = (found.rows, found.digest) == (before.rows, before.digest)
        yield Outcome(
            "pass" if same else "fail",
            database.name,
            found.rows,
            f"{before.rows} large objects, as in the snapshot",
            "" if same or found.rows != before.rows else "other content",
        )


def sequences(context: Context) -> Iterator[Outcome]:
    """Compare sequences with what they were before and after the dump.

    A sequence moves outside of snapshots, so the two bound what may have come back.
    """
    for database, connection in _each(context):
        found = content.read_sequences(connection)
        bad = 0
        for name, span in database.sequences.items():
            value = found.get(name)
            low, high = span.first or 0, span.last or 0
            lowest, highest = min(low, high), max(low, high)  # one that counts down, or went round
            if name not in found:
                bad += 1
                yield Outcome(
                    "fail", f"{database.name}.{name}", "no such sequence", f"{lowest} to {highest}"
                )
            elif not lowest <= (value or 0) <= highest:
                bad += 1
                yield Outcome(
                    "fail",
                    f"{database.name}.{name}",
                    value if value is not None else "never used",
                    f"{lowest} to {highest}",
                )
        if len(database.sequences) > bad or not database.sequences:
            yield Outcome(
                "pass",
                database.name,
                len(database.sequences) - bad,
                "as when it was dumped",
                "sequences",
            )


def definitions(context: Context) -> Iterator[Outcome]:
    """Compare the definitions as pg_dump words them.

    Another major version words some anew, so a change is a warning there; a loss is not.
    """
    assert isinstance(context, DumpContext)  # noqa: S101 - these are asked by `ask` only
    for database in _databases(context):
        found = (context.definitions or {}).get(database.name)
        if found is None:
            yield Outcome(
                "skip", database.name, message="the restored definitions could not be read"
            )
            continue
        changes = list(differences(database.schema_objects, found))
        for change in changes[:MOST]:
            lenient = change.how == "changed" and not context.same_major
            yield Outcome(
                "warn" if lenient else "fail",
                f"{database.name}: {change.thing}",
                change.how,
                "as dumped",
                "another major version may word it otherwise: compare by eye" if lenient else "",
            )
        if len(changes) > MOST:
            yield Outcome("fail", database.name, len(changes) - MOST, "0", "more objects differ")
        if not changes:
            yield Outcome("pass", database.name, len(found), "all as dumped", "objects compared")


def extensions(context: Context) -> Iterator[Outcome]:
    """Compare extensions: the recorded version, or a newer one, which is said."""
    for database, connection in _each(context):
        found = extension_versions(connection)
        for name, before in sorted(database.extensions.items()):
            now = found.get(name, "none")
            behind = now == "none" or older(now, before)
            yield Outcome(
                "fail" if behind else "pass" if now == before else "warn",
                f"{database.name}.{name}",
                now,
                f"= {before}",
                "" if now == before or behind else "newer than when it was dumped",
            )


def roles(context: Context) -> Iterator[Outcome]:
    """Compare each statement of pg_dumpall about roles, their memberships and settings."""
    assert isinstance(context, DumpContext) and context.manifest  # noqa: S101 - these are asked by `ask` only
    before, found = (globals_lines(text, context.manifest.superuser) for text in context.roles)
    # the drill asks without them: hashes are nobody's business there
    if context.manifest.role_passwords:
        before = {PASSWORD.sub("", line) for line in before}
    missing = sorted(before - found)
    for line in missing[:MOST]:
        yield Outcome("fail" if context.same_major else "warn", line[:120], "missing", "as dumped")
    if not missing:
        yield Outcome("pass", "roles", len(before), "all as dumped", "statements")


def _check(name: str, passing: str, hint: str, question: Question) -> Check:
    return Check(name, FAMILY, passing, hint, question)


DUMP_CHECKS = (
    _check(
        "dump-rows",
        "every row of the dump's snapshot came back to the bit",
        "take a new dump; compare the named table with production by key",
        rows,
    ),
    _check(
        "dump-large-objects",
        "every large object of the snapshot came back to the bit",
        "take a new dump; dump as a role that may read them all, and never with --extension",
        large_objects,
    ),
    _check(
        "dump-sequences",
        "every sequence stands where it stood while it was dumped",
        "set it (setval) above the column's highest value after restoring",
        sequences,
    ),
    _check(
        "dump-definitions",
        "every object is there, defined as it was",
        "restore and dump with the same version; compare the named object with production",
        definitions,
    ),
    _check(
        "dump-extensions",
        "every extension has the recorded version",
        "install the recorded version, or mean the upgrade and read its release notes",
        extensions,
    ),
    _check(
        "dump-roles",
        "every role, membership and role setting is there",
        "run globals.sql of the dump by hand and read its errors",
        roles,
    ),
)


def _databases(context: Context) -> list[DatabaseDump]:
    assert isinstance(context, DumpContext) and context.manifest  # noqa: S101 - these are asked by `ask` only
    return context.manifest.databases


def _each(context: Context) -> Iterator[tuple[DatabaseDump, psycopg.Connection]]:
    for database in _databases(context):
        with context.connect(database.name) as connection:
            content.prepare(connection)
            yield database, connection
