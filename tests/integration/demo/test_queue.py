"""The demo's queue: a real Redis with what BullMQ wrote, copied to the demo's store and proved."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from pgdrill.queues.take import take_snapshot
from pgdrill.queues.verify import verify
from pgdrill_demo.queue import JOBS
from pgdrill_demo.stack import Stack, tear_down


def test_the_agents_queue_is_copied_to_the_stacks_store_and_found_right() -> None:
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), with_queue=True)
    if stack.queue.programs is None:
        pytest.skip("no redis-server, or no bullmq, is installed here: the demo has no queue")
    try:
        stack.s3.start()
        stack.write_config()
        stack.queue.start()
        stack.queue.fill()
        record = take_snapshot(stack.queue_access)
        report = verify(stack.queue_access)
    finally:
        stack.s3.stop()
        left = tear_down(stack.home)
    assert left == []
    assert not stack.home.exists()
    assert record.file.name == "dump.rdb"
    assert report.verdict == "passed", report.model_dump_json(indent=1)
    assert report.live == JOBS + 2 * (JOBS // 10) + 1
    assert stack.queue.password not in record.model_dump_json() + report.model_dump_json()
