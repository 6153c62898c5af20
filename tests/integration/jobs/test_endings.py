"""Stores that refuse, drop, stall or trickle, for ever: every step that talks to one ends in the
time that was allowed for waiting.
"""

from __future__ import annotations

import http.server
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.backup import take_backup
from pgdrill.errors import CouldNotVerify, Unreachable
from pgdrill.host.byte_progress import Movement
from pgdrill.host.process import Command, ProcessTimeout, Runner
from pgdrill.logical.transfer import Upload, download
from pgdrill.reports import store
from pgdrill.reports.model import Report
from pgdrill.repository.failures import NETWORK
from pgdrill.repository.object_store import Storage
from tests.integration.conftest import Copy, Golden, Relay
from tests.integration.jobs.test_backup_faults import access_to, listed

# longer than the tools' first tries: wal-g's sleep of a minute is what is to be seen through
STALL_SECONDS = 12.0
SLACK_SECONDS = 8.0


@pytest.mark.parametrize("how", ["503", "reset", "hang"])
def test_a_fetch_whose_part_never_comes_ends_when_nothing_arrived_for_so_long(
    repository: Copy, relay: Relay, how: str
) -> None:
    """wal-g sleeps a minute between its tries, then two, then four; sleeping it still reads a few
    bytes every ten seconds.
    """
    relay.misbehave(rf"GET \S*{repository.part.name.split('.')[0]}", how)
    access = repository.access(
        repository={"endpoint_url": relay.endpoint_url},
        drill={"stall_seconds": STALL_SECONDS, "timeout_seconds": 600.0},
    )
    started = time.monotonic()
    verdict, trouble = repository.trouble(access)
    assert relay.matched.is_set()
    assert time.monotonic() - started < STALL_SECONDS + SLACK_SECONDS
    assert verdict == "could not verify"
    assert trouble.reason in ("storage-unreachable", "storage-stalled")
    if how != "hang":
        assert NETWORK.search(trouble.found), f"the tool's last words are not told: {trouble.found}"


def test_wal_gs_last_word_ends_it(tmp_path: Path, golden: Golden) -> None:
    """It goes on after its last retry where a part of the parts arrived; nobody waits for that."""
    if golden.stack.tool != "wal-g":
        pytest.skip("wal-g's own")
    fetch = golden.stack.access.tool.fetch(golden.backup, tmp_path, {}, tmp_path, 1)
    said = "WARNING: 2026/11/29 08:18:52.278280 retries left: -1"
    started = time.monotonic()
    done = Runner().run(
        Command(
            ("sh", "-c", f"echo 'status code: 503' >&2; echo '{said}' >&2; sleep 60"),
            hopeless=fetch.command.hopeless,
        )
    )
    assert time.monotonic() - started < 10
    assert done.code
    assert said in done.ended


def test_a_program_that_sleeps_and_wakes_for_nothing_is_no_working_one(tmp_path: Path) -> None:
    """Ten bytes a second through a pipe, as a runtime's own timers move them."""
    idle = (
        "import os, time\nr, w = os.pipe()\nwhile True: os.write(w, b'x' * 10); os.read(r, 10);"
        " time.sleep(0.1)"
    )
    with pytest.raises(ProcessTimeout) as caught:
        Runner().run(Command(("python3", "-c", idle)), stall_seconds=2)
    assert caught.value.stalled
    with pytest.raises(ProcessTimeout):
        # requests again and again, and no file of it
        busy = idle.replace("* 10", "* 10000").replace("10)", "10000)")
        Runner().run(Command(("python3", "-c", busy), works_in=(tmp_path,)), stall_seconds=2)


@pytest.mark.parametrize("how", ["written", "read", "written in place", "by a child"])
def test_a_program_that_works_on_files_is_a_working_one(tmp_path: Path, how: str) -> None:
    (tmp_path / "file").write_bytes(bytes(10_000))
    step = {
        "written": "f.write(b'x'); f.flush()",
        "read": "f.read(10)",
        "written in place": "os.pwrite(f.fileno(), b'x', 5)",
    }
    program = (
        f"import os, time\nf = open({str(tmp_path / 'file')!r},"
        f" {'rb' if how == 'read' else 'r+b'!r}, buffering=0)\nfor _ in range(50):"
        f" {step.get(how, step['written'])}; time.sleep(0.1)"
    )
    words = (
        ("sh", "-c", f'python3 -c "{program}"; true')
        if how == "by a child"
        else ("python3", "-c", program)
    )
    assert Runner().run(Command(words, works_in=(tmp_path,)), stall_seconds=3).code == 0


def test_a_file_that_others_write_does_not_count_for_the_one_who_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "relation"
    file.write_bytes(b"x")
    with file.open("rb"):
        movement = Movement(os.getpid(), (tmp_path,))
        assert movement.look()
        time.sleep(0.01)
        file.write_bytes(b"xx")  # closed again
        assert not movement.look()


@pytest.mark.parametrize("how", ["503", "hang"])
def test_a_backup_whose_parts_are_not_taken_ends_when_nothing_was_read_for_so_long(
    golden: Golden, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = listed(golden)
    relay = Relay(golden.stack.s3.endpoint_url)
    relay.misbehave(r"(PUT|POST) \S*(part_00|data\.tar)", how)
    access = access_to(
        golden,
        repository={"endpoint_url": relay.endpoint_url},
        backup={"stall_seconds": STALL_SECONDS},
    )
    started = time.monotonic()
    try:
        with pytest.raises(CouldNotVerify) as caught:
            take_backup(access)
    finally:
        relay.close()
    assert relay.matched.is_set()
    assert time.monotonic() - started < STALL_SECONDS + 2 * SLACK_SECONDS
    assert caught.value.problem.reason in ("storage-unreachable", "storage-stalled")
    assert listed(golden) == before


# --- the report store ---


class Waiting(http.server.BaseHTTPRequestHandler):
    """Takes reports and answers never, or byte by byte."""

    protocol_version = "HTTP/1.1"
    how = "hang"
    over = threading.Event()
    calls = 0

    def do_PUT(self) -> None:
        type(self).calls += 1
        if self.how == "well":
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("ETag", '"x"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answer = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000
        for at in range(len(answer)):
            if self.how == "trickle":
                self.wfile.write(answer[at : at + 1])
            if self.over.wait(0.3):
                return

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setattr(Waiting, "over", threading.Event())
    monkeypatch.setattr(Waiting, "calls", 0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Waiting)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    yield Storage.open(
        "s3://backups/reports", keys, endpoint_url=f"http://127.0.0.1:{server.server_port}"
    )
    Waiting.over.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("how", ["hang", "trickle"])
def test_a_report_store_that_hangs_costs_its_time_once_and_is_told_of_once(
    waiting: Storage,
    how: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Waiting, "how", how)
    report = a_report()
    file = tmp_path / "reports" / "one.json"
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for number in range(6):  # as many as the stages of a drill write
            report.summary = f"stage {number}"
            store.keep_report(waiting, "reports/one.json", file, report)
    assert time.monotonic() - started < 27
    assert len([line for line in caplog.records if "kept at" in line.message]) == 1
    kept = Report.model_validate_json(file.read_text())
    assert (kept.summary, kept.kept_at) == ("stage 5", [str(file)])
    monkeypatch.setattr(Waiting, "how", "well")
    # and when it is there again, it gets the report
    store.keep_report(waiting, "reports/one.json", file, report)
    assert report.kept_at == [str(file), "s3://backups/reports/reports/one.json"]


def a_report() -> Report:
    from datetime import UTC, datetime

    return Report(
        drill_id="one",
        cluster="agents",
        started_at=datetime.now(UTC),
        rpo_seconds=60,
        rto_seconds=3600,
    )


# --- dumps ---


def test_a_dump_may_take_longer_to_come_than_one_request(
    golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as something comes: silence is what is limited."""
    monkeypatch.setattr("pgdrill.repository.object_store.REQUEST_TIMEOUT", "1s")
    monkeypatch.setattr("pgdrill.repository.object_store.PATIENT_TIMEOUT", "1s")
    monkeypatch.setattr("pgdrill.repository.object_store.SILENCE_TIMEOUT", "2s")
    relay = Relay(golden.store.endpoint_url)
    storage = Storage.open(
        f"s3://{golden.store.bucket}/large",
        golden.store.environment,
        endpoint_url=relay.endpoint_url,
    )
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1_000_000))
    upload = Upload(storage, "object", expected_bytes=1_000_000, moved=lambda _: None)
    with source.open("rb") as pipe:
        upload(pipe, lambda: 0)
    relay.misbehave("GET", "trickle")  # 200 kB/s
    try:
        started = time.monotonic()
        download(storage, "object", upload.file("object"), tmp_path / "came", lambda _: None)
        assert time.monotonic() - started > 3
        assert (tmp_path / "came").read_bytes() == source.read_bytes()
        relay.misbehave("GET", "hang")
        with pytest.raises(Unreachable):
            download(storage, "object", upload.file("object"), tmp_path / "other", lambda _: None)
        assert time.monotonic() - started < 30
    finally:
        relay.close()


def test_an_upload_to_a_store_that_hangs_ends_with_its_program(
    tmp_path: Path, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgdrill.host.process.CONSUMER_SECONDS", 2.0)
    relay = Relay(golden.store.endpoint_url)
    relay.misbehave("PUT|POST", "hang")
    storage = Storage.open(
        f"s3://{golden.store.bucket}/hangs",
        golden.store.environment,
        endpoint_url=relay.endpoint_url,
    )
    upload = Upload(storage, "object", expected_bytes=2**20, moved=lambda _: None)
    started = time.monotonic()
    try:
        with pytest.raises((ProcessTimeout, Unreachable)):
            Runner().run(Command(("sh", "-c", "cat /dev/zero")), stall_seconds=5, on_stdout=upload)
    finally:
        relay.close()
    assert time.monotonic() - started < 15
