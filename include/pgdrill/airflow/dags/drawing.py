"""Which clusters have DAGs, and what an import error says of those that have none.

A DAG file that raises loses all its DAGs, and Airflow starts no further task of their runs. So
those that draw never raise for what is wrong with one cluster: another file does, for all of them
(``dags/configuration.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from pgdrill.airflow import begun
from pgdrill.airflow.schedules import SECTIONS, check_queue_schedule, check_schedule
from pgdrill.config import Settings, config_path, load
from pgdrill.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from pgdrill.config import Cluster
    from pgdrill.queue_settings import Queue

logger = logging.getLogger(__name__)


class Maker(Protocol):
    """Draws a cluster's DAG."""

    def __call__(self, cluster: Cluster, settings: Settings, doc: str | None = None) -> DAG:
        """Draw it; ``doc``: the DAG file's own words."""


class LeftOut(Exception):
    """What is wrong with the configuration, and what it costs."""


LeftOut.__module__ = "pgdrill"


def draw(make: Maker, doc: str | None) -> None:
    """The DAG of each cluster that is right, and of those that are not while a job of theirs is at
    work.
    """
    going_on = begun.at_work()
    settings = _settings()
    for name in {**settings.clusters, **going_on}:
        for cluster in filter(None, (settings.clusters.get(name), going_on.get(name))):
            try:
                make(cluster, settings, doc=doc)
                break
            except ConfigError as error:
                logger.warning("no DAG: %s", error)


class QueueMaker(Protocol):
    """Draws a queue's DAG."""

    def __call__(self, queue: Queue, settings: Settings, doc: str | None = None) -> DAG:
        """Draw it; ``doc``: the DAG file's own words."""


def draw_queues(make: QueueMaker, doc: str | None) -> None:
    """The DAG of each queue that is right, and whose cluster is."""
    settings = _settings()
    for queue in settings.queues.values():
        if queue.cluster not in settings.clusters:
            logger.warning("no DAG for queue %s: cluster %s is wrong", queue.name, queue.cluster)
            continue
        try:
            make(queue, settings, doc=doc)
        except ConfigError as error:
            logger.warning("no DAG: %s", error)


def check_configuration() -> None:
    """Raise what is wrong with the file, in words that stand at the top of the import error.

    Airflow shows the exception with its cause first, and a cause that nobody raised has no
    traceback.
    """
    told = list(_faults())
    if not told:
        return
    if going_on := sorted(begun.at_work().keys() - _settings().clusters.keys()):
        names = ", ".join(going_on)
        told.append(
            f"Jobs of {names} that have begun go on with the configuration that they began with;"
            " until then its DAGs stay."
        )
    words = "\n".join(told)
    raise LeftOut(words) from LeftOut(words)


def _settings() -> Settings:
    try:
        return load()
    except ConfigError as error:
        logger.warning("the configuration cannot be used: %s", error)
        return Settings.model_construct(clusters={}, queues={}, source=config_path())


def _faults() -> Iterator[str]:
    """One line for each cluster that has no DAGs, or not all."""
    try:
        settings = load()
    except ConfigError as error:
        yield f"No cluster has DAGs. {error}"
        return
    rest = f"The DAGs of {', '.join(settings.clusters)} are not touched by it."
    for name, wrong in settings.wrong.items():
        lost = f"Cluster {name} has no DAGs" if name else "These tables are nobody's"
        yield f"{lost}: {wrong}. {rest}"
    for cluster in settings.clusters.values():
        for section in SECTIONS:
            try:
                check_schedule(cluster, section, settings.source)
            except ConfigError as error:
                yield f"One DAG of cluster {cluster.name} is missing: {error}"
    for queue in settings.queues.values():
        try:
            check_queue_schedule(queue, settings.source)
        except ConfigError as error:
            yield f"The DAG of queue {queue.name} is missing: {error}"
