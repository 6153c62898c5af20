"""The configuration that a job of several tasks began with, kept until it is over: no later change
of dr.toml reaches it.

The tasks of a drill are processes of their own, hours apart. Whatever becomes of the file
meanwhile, they mean the same server, bucket and folders, and `destroy` finds what `restore` has
made. Kept on the worker's host, below AIRFLOW_HOME, closed to others. Secrets are no part of a
configuration: each task asks its Connections again.

A job that runs also keeps its cluster's DAGs drawn: for a run whose DAG is gone Airflow starts no
further task, not even the one that destroys.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, ValidationError

from pgdrill.airflow.drill_id import drill_id_of
from pgdrill.config import Cluster
from pgdrill.documents import StrictModel
from pgdrill.errors import CouldNotVerify
from pgdrill.host.owner import write_whole
from pgdrill.host.private import check_place

logger = logging.getLogger(__name__)

AFTER_DESTROY = timedelta(hours=1)  # for what still has to run: the verdict, other tries
# until then `destroy` can be cleared and means the folders of that time
FORGOTTEN_AFTER = timedelta(days=30)
CONTENT_BYTES = 2**20


class Begun(StrictModel):
    """A job that has begun, and until when it may be at work."""

    cluster: str
    until: AwareDatetime
    home: Path
    work_directories: tuple[Path, ...]
    configuration: dict[str, Any]

    def as_configured(self) -> Cluster:
        """The cluster, as :func:`pgdrill.config.load` gave it then."""
        apart = {"name": self.cluster, "home": self.home, "work_directories": self.work_directories}
        return Cluster.model_validate({**self.configuration, **apart})


def folder() -> Path:
    """Where they are kept: found without a configuration, for that may be what is broken."""
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "pgdrill" / "begun"


def keep(job: str, cluster: Cluster) -> None:
    """Write down what a job begins with. Where that cannot be done it goes on without, and says
    so."""
    # What was not set stays unset: a Connection completes it.
    content = cluster.model_dump(mode="json", exclude_unset=True)
    begun = Begun(
        cluster=cluster.name,
        until=_while_at_work(cluster),
        home=cluster.home,
        work_directories=cluster.work_directories,
        configuration=content,
    )
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        check_place(folder(), above=0)
        _remove_old()
        _write(job, begun)
    except (OSError, CouldNotVerify) as error:
        logger.warning(
            "a change of dr.toml will reach this job, for what it begins with cannot be kept: %s",
            error,
        )


def kept(job: str) -> Cluster | None:
    """What the job began with, if it was kept; it counts as at work for longer."""
    begun = _read(_file(job))
    if begun is None:
        return None
    cluster = begun.as_configured()
    _until(job, begun, _while_at_work(cluster))
    return cluster


def over(job: str) -> None:
    """Nothing is left of the job that somebody has to destroy: soon its cluster's DAGs are drawn
    for it no more.
    """
    if begun := _read(_file(job)):
        _until(job, begun, datetime.now(UTC) + AFTER_DESTROY)


def at_work() -> dict[str, Cluster]:
    """The clusters of the jobs that may be at work on this host, by name, each as the newest of its
    jobs has it.
    """
    now = datetime.now(UTC)
    found = sorted((begun for begun in _all() if begun.until > now), key=lambda begun: begun.until)
    return {begun.cluster: begun.as_configured() for begun in found}


def _while_at_work(cluster: Cluster) -> datetime:
    """A task may wait for so long for another job, and then take as long."""
    return (
        datetime.now(UTC)
        + timedelta(seconds=2 * max(cluster.drill.timeout_seconds, cluster.dump.timeout_seconds))
        + AFTER_DESTROY
    )


def _until(job: str, begun: Begun, until: datetime) -> None:
    try:
        _write(job, begun.model_copy(update={"until": until}))
    except OSError as error:
        logger.warning("%s: %s", _file(job), error)


def _write(job: str, begun: Begun) -> None:
    write_whole(str(_file(job)), begun.model_dump_json(indent=1))


def _file(job: str) -> Path:
    return folder() / f"{drill_id_of(f'begun {job}')}.json"


def _all() -> Iterator[Begun]:
    try:
        files = sorted(folder().glob("*.json"))
    except OSError:
        return
    yield from filter(None, map(_read, files))


def _read(file: Path) -> Begun | None:
    """None where there is none, or none that can be believed: whoever could write one would run
    programs by it.
    """
    try:
        if not file.exists():
            return None
        check_place(file.parent, above=0)
        begun = Begun.model_validate(json.loads(file.read_text("utf-8")[:CONTENT_BYTES]))
        begun.as_configured()
    except (OSError, ValueError, ValidationError, CouldNotVerify) as error:
        logger.warning(
            "%s is passed over: %s",
            file,
            type(error).__name__ if isinstance(error, ValueError) else error,
        )
        return None
    return begun


def _remove_old() -> None:
    oldest = (datetime.now(UTC) - FORGOTTEN_AFTER).timestamp()
    for file in folder().glob("*.json*"):
        if file.stat().st_mtime < oldest:
            file.unlink(missing_ok=True)
