"""WAL that the store lists and answers 404 for is no end of WAL: it is asked for again, and then it
is the store's fault.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.errors import Unreachable
from pgdrill.host.process import Runner
from tests.integration.conftest import Copy, Relay


def behind(relay: Relay, repository: Copy, **drill: object) -> Access:
    return repository.access(repository={"endpoint_url": relay.endpoint_url}, drill=drill)


@pytest.mark.parametrize("wal_fetch", ["auto", "tool"])
def test_wal_that_is_listed_and_never_given_is_the_stores_fault(
    repository: Copy, relay: Relay, wal_fetch: str
) -> None:
    segment = repository.golden.marks[1].segment.name
    relay.misbehave(rf"(GET|HEAD) \S*/{segment}", "404")
    verdict, trouble = repository.trouble(
        behind(relay, repository, wal_fetch=wal_fetch, stall_seconds=90.0, timeout_seconds=180.0)
    )
    assert relay.matched.is_set()
    assert (verdict, trouble.reason) == ("could not verify", "storage-inconsistent")
    assert segment in trouble.thing


def test_a_replica_that_lags_behind_for_a_moment_is_waited_for(
    repository: Copy, relay: Relay
) -> None:
    segment = repository.golden.marks[1].segment.name
    relay.misbehave(rf"(GET|HEAD) \S*/{segment}", "404")

    def catch_up() -> None:
        relay.matched.wait(180)
        threading.Event().wait(1)  # as long as it lags
        relay.behave()

    catching = threading.Thread(target=catch_up)
    catching.start()
    report = repository.drill(behind(relay, repository), families=("recovery",))
    catching.join()
    assert report.restore.status == "ok", report.restore.trouble


def test_what_is_not_listed_is_absent_at_once(repository: Copy, tmp_path: Path) -> None:
    name = f"00000009{repository.golden.marks[0].segment.name[8:]}"
    assert repository.access().wal_reader(Runner(), tmp_path).fetch(name) is None


def test_a_single_file_that_is_listed_and_not_given_is_not_absent(
    repository: Copy, relay: Relay, tmp_path: Path
) -> None:
    segment = repository.golden.marks[0].segment.name
    relay.misbehave(rf"(GET|HEAD) \S*/{segment}", "404")
    with pytest.raises(Unreachable) as caught:
        behind(relay, repository).wal_reader(Runner(), tmp_path).fetch(segment)
    assert caught.value.problem.reason == "storage-inconsistent"
