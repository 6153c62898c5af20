"""Examinations of the rights of the role on production."""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, red
from pgdrill.doctor.subject import Subject
from pgdrill.postgres.rights import FUNCTIONS, Right, rights


@examination(
    "rights",
    "rights",
    green="the role has pg_read_all_data, pg_monitor and BYPASSRLS",
    needs=("login",),
    jobs=("backup", "drill", "dump"),
    hint="run the statement as a superuser",
    example="role pgdrill: lacks BYPASSRLS",
)
def of_the_role(subject: Subject) -> Iterator[Finding]:
    """Ask for the role's rights, and yield one line for each that it lacks."""
    yield from _lines(
        subject, [right for right in rights(subject.server) if right.name not in FUNCTIONS]
    )


@examination(
    "functions",
    "rights",
    green=(
        "the role may execute what base backups and restore points take, in the database of"
        " server.dsn"
    ),
    needs=("login",),
    jobs=("backup", "drill"),
    hint="run the statement as a superuser, in the database that server.dsn names",
    example="role pgdrill in agents: lacks pg_backup_start(text, boolean)",
)
def functions(subject: Subject) -> Iterator[Finding]:
    """Ask for the rights on functions, which belong to a database."""
    yield from _lines(
        subject, [right for right in rights(subject.server) if right.name in FUNCTIONS]
    )


def _lines(subject: Subject, asked: list[Right]) -> Iterator[Finding]:
    info = subject.server.info
    thing = f"role {info.user} in {info.dbname}"
    for right in asked:
        if not right.held:
            yield red(
                thing,
                f"lacks {right.name}",
                f"it: {right.why}",
                f"as a superuser, in database {info.dbname}: `{right.statement}`",
            )
    if all(right.held for right in asked):
        yield green(thing, ", ".join(right.name for right in asked))
