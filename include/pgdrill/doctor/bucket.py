"""Examinations of what this host's keys may do in the bucket.

Nothing is written but one probe object, and nothing is deleted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, not_asked, red
from pgdrill.doctor.subject import Subject
from pgdrill.errors import CouldNotVerify
from pgdrill.repository.leases.board import probe
from pgdrill.repository.object_store import KEYS, Storage, whole_pair

PART = "bucket"
PROBE = "doctor-probe.json"  # not the one of leases: two who try at once disturb each other
# always the same, so that a bucket with versions keeps one marker's name and no more
NEVER_THERE = "doctor-delete-probe"


@examination(
    "keys",
    PART,
    green="both AWS keys are set, or neither",
    hint=(
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the worker's environment (or the"
        " Connection that repository.conn_id names)"
    ),
    example="AWS keys: AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not",
)
def keys(subject: Subject) -> Iterator[Finding]:
    """Look whether the keys are set, by their names alone."""
    if _folder(subject.access.cluster.repository.url):
        yield not_asked("AWS keys", "the repository is a folder")
        return
    whole_pair(subject.access.environment)
    if any(subject.access.environment.get(name) for name in KEYS):
        token = (
            " and AWS_SESSION_TOKEN: they run out"
            if subject.access.environment.get("AWS_SESSION_TOKEN")
            else ""
        )
        yield green("AWS keys", f"both set{token}")
    else:
        yield green("AWS keys", "none set: the machine's role counts")


@examination(
    "list",
    PART,
    green="the repository can be listed",
    needs=("keys",),
    hint="allow s3:ListBucket on the bucket",
    example="s3://backups/agents/: 403 AccessDenied, wanted permission to list and read",
)
def listing(subject: Subject) -> Iterator[Finding]:
    """List what pgdrill itself keeps there, once."""
    for url in dict.fromkeys(_urls(subject)):
        if (folder := _folder(url)) and not folder.is_dir():
            yield red(
                url,
                "no such folder",
                "a folder that this user can write",
                f"`install -d -m 0700 {folder}` as the user that runs the tasks",
            )
            return
    subject.access.objects.find("pgdrill/leases/none", re.compile("(none)"))
    yield green(subject.access.cluster.repository.url, "listed")


@examination(
    "put",
    PART,
    green="an object below the report store can be put and read",
    needs=("list",),
    hint="allow s3:PutObject below pgdrill/ of the prefix",
    example="s3://backups/agents/pgdrill/doctor-probe.json: 403 AccessDenied",
)
def put(subject: Subject) -> Iterator[Finding]:
    """Put an object with conditions, as a lease is written, and read it.

    The object is always the same, and stays, as leases do.
    """
    place = f"{subject.access.reports.url}/{PROBE}"
    try:
        conditional = probe(subject.access.reports, PROBE)
        if not conditional:
            subject.access.reports.write(PROBE, b"{}")
    except CouldNotVerify as error:
        yield _refused(error, place, f"`s3:PutObject` on {_arn(subject.access.reports)}/*")
        return
    words = (
        "keeps to conditional writes"
        if conditional
        else "no conditional writes: leases do without (docs/explanation/locks.md)"
    )
    try:
        read = subject.access.reports.read(PROBE)
    except CouldNotVerify as error:
        yield _refused(error, place, f"`s3:GetObject` on {_arn(subject.access.objects)}/*")
        return
    if read == b"{}":
        yield green(place, f"put and read; {words}")
    else:
        yield red(
            place,
            "another content than was put, or none",
            "what was put",
            "see what answers for the store (proxies, replicas)",
        )


@examination(
    "delete",
    PART,
    green="the keys may delete, as prunes and logical dumps do",
    needs=("list",),
    jobs=("prune", "dump"),
    hint=(
        "allow s3:DeleteObject below the prefix for a prune's keys; nobody else needs it (`--for"
        " backup --for drill` leaves this out)"
    ),
    example="s3://backups/agents/doctor-delete-probe: 403 AccessDenied",
)
def delete(subject: Subject) -> Iterator[Finding]:
    """Try to delete a key that is never there."""
    places = {
        store.url: store
        for store, job in ((subject.access.objects, "prune"), (subject.access.dumps, "dump"))
        if job in subject.jobs
    }
    wrong = []
    for url, store in places.items():
        if (folder := _folder(url)) and folder.is_dir() and not os.access(folder, os.W_OK):
            wrong.append(red(url, "nothing can be deleted", "a folder that this user can write"))
        try:
            store.delete(NEVER_THERE)
        except CouldNotVerify as error:
            wrong.append(
                _refused(
                    error,
                    f"{url}/{NEVER_THERE}",
                    f"`s3:DeleteObject` on {_arn(store)}/*",
                    "; where these keys are for other jobs: "
                    f"`pgdrill doctor {subject.name} --for backup --for drill`",
                )
            )
    yield from wrong or [green(", ".join(places), "a delete of a key that is not there was taken")]


def _refused(error: CouldNotVerify, place: str, allow: str, more: str = "") -> Finding:
    words = error.problem
    hint = (
        f"let the policy of these keys allow {allow}{more}"
        if words.reason == "storage-refused"
        else words.hint
    )
    return Finding(
        "red",
        place,
        words.found,
        "permission" if words.reason == "storage-refused" else words.expected,
        hint,
        words.reason,
    )


def _urls(subject: Subject) -> Iterator[str]:
    """Yield the urls before a folder's store is opened, for that would make the folder."""
    yield subject.access.cluster.repository.url


def _folder(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(parts.path) if parts.scheme == "file" else None


def _arn(store: Storage) -> str:
    parts = urlsplit(store.url)
    return f"arn:aws:s3:::{parts.netloc}{parts.path}" if parts.scheme == "s3" else store.url
