"""Examinations of the repository: whose backups lie in it, and whether all that are known do."""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.baseline.own_system import OWN_PREFIX, stranger_hint
from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, red, warn
from pgdrill.doctor.subject import Subject
from pgdrill.postgres.pg_control import system_identifier
from pgdrill.reports.known_backups import lost_backups, missing
from pgdrill.text import count

PART = "repository"


@examination(
    "backups",
    PART,
    green="there is a base backup, every one can be read, and none that is known is missing",
    needs=("list", "tool"),
    hint="take a base backup, or set repository.url to where they are",
    example="s3://backups/agents: no finished base backup",
)
def backups(subject: Subject) -> Iterator[Finding]:
    """Read the backups from the tool's own descriptions, and pgdrill's records."""
    access, store = subject.access, subject.access.repository
    found = store.backups()
    subject.backups = list(found)
    wrong = [
        Finding("red", one.thing, one.found, one.expected, one.hint, one.reason)
        for one in found.broken.values()
    ]
    lost = lost_backups(access, [*(backup.name for backup in found), *found.broken])
    wrong += [
        Finding("red", one.thing, one.found, one.expected, one.hint, one.reason)
        for one in missing("base backup", store.url, lost, len(found))
    ]
    if not found and not wrong:
        wrong.append(
            warn(
                store.url,
                "no finished base backup",
                "one to restore from",
                f"`pgdrill backup {subject.name}`, beside the data directory",
            )
        )
    yield from wrong
    if not wrong:
        newest = max(backup.finish_time for backup in found)
        yield green(
            store.url,
            f"{count(len(found), 'base backup')}, the newest of {newest:%Y-%m-%d %H:%M} UTC",
        )


@examination(
    "whose-backups",
    PART,
    green="all base backups are this server's",
    needs=("backups", "login"),
    hint=(
        "give the other server a prefix of its own (its repository.url), then take a base backup of"
        " this one"
    ),
    example="base_0000…: system identifier 7399…, wanted 7412…, the server's",
)
def whose(subject: Subject) -> Iterator[Finding]:
    """Compare the system identifier of each backup with the server's.

    Once the newest is the server's own, others only lie about.
    """
    access, name = subject.access, subject.name
    own = system_identifier(subject.server)
    strangers = [backup for backup in subject.backups if backup.system_identifier != own]
    newest = max(subject.backups, key=lambda backup: backup.finish_time, default=None)
    for backup in strangers:
        found, expected = f"system identifier {backup.system_identifier}", f"{own}, the server's"
        if newest and newest.system_identifier == own:
            yield warn(
                f"backup {backup.name}",
                found,
                expected,
                stranger_hint(name, backup.name, access.cluster.retention.window_days),
            )
        else:
            yield red(
                f"backup {backup.name}",
                found,
                f"{expected}, at least of the newest",
                f"{OWN_PREFIX}, then take a base backup of this one: `pgdrill backup {name}`",
            )
    if not strangers:
        yield green(
            access.repository.url, f"{count(len(subject.backups), 'base backup')} of system {own}"
        )
