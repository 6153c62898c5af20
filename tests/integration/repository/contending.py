"""A process that wants a repository for itself; imports little, for there are several of them."""

from __future__ import annotations

from pathlib import Path

from pgdrill.repository.leases.board import Board
from pgdrill.repository.leases.claim import exclusive
from pgdrill.repository.object_store import Storage

# url, keys, endpoint: a store is no thing to hand to a process
Place = tuple[str, dict[str, str], str]


def storage_at(place: Place) -> Storage:
    return Storage.open(place[0], place[1], endpoint_url=place[2])


def contend(place: Place, host: str, log: Path) -> None:
    """For a process of its own: in and out, two times.

    What is written at the end of a file stays whole.
    """
    for _ in range(2):
        with (
            exclusive(
                Board(storage_at(place), host), "prune", host, life_seconds=60, wait_seconds=60
            ) as lease,
            log.open("a") as sink,
        ):
            sink.write(f"in-{host}\n")
            sink.flush()
            lease.confirm()
            sink.write(f"out-{host}\n")
