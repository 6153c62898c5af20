"""Objects in a folder or in S3: what comes back, and how a store that fails is told."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from pgdrill.errors import ConfigError, CouldNotVerify, NoKeys, Unreachable
from pgdrill.repository import object_store
from pgdrill.repository.object_store import Storage, _Explained

KEYS = {"AWS_ACCESS_KEY_ID": "canary-key", "AWS_SECRET_ACCESS_KEY": "canary-secret"}


@pytest.fixture
def folder(tmp_path: Path) -> Storage:
    return Storage.open(f"file://{tmp_path}/new folder", {})


def test_what_is_written_is_read_and_listed(folder: Storage) -> None:
    assert folder.write("a/b.json", b"12345") == f"{folder.url}/a/b.json"
    folder.write("a/empty", b"")
    folder.write("c", b"1")
    assert folder.read("a/b.json") == b"12345"
    assert folder.read("a/empty") == b""
    assert folder.sizes() == {"a/b.json": 5, "a/empty": 0, "c": 1}
    assert folder.sizes("a/") == {"a/b.json": 5, "a/empty": 0}


def test_a_large_object_arrives_in_chunks(folder: Storage) -> None:
    content = bytes(range(256)) * 20_000
    folder.write("a/large", content)
    chunks = list(folder.chunks("a/large", 2**20) or ())
    assert len(chunks) > 2
    assert b"".join(chunks) == content
    assert list(folder.chunks("a/large") or ())


def test_what_is_not_there_is_none_and_no_error(folder: Storage) -> None:
    assert folder.read("nothing") is None
    assert folder.chunks("nothing") is None
    assert folder.sizes("nothing/") == {}


def test_several_are_read_at_a_time_and_one_that_is_not_there_is_none(folder: Storage) -> None:
    for number in range(20):
        folder.write(f"many/{number}", str(number).encode())
    wanted = [f"many/{number}" for number in range(20)]
    read = list(folder.read_all([*wanted, "many/none"], 100))
    assert read == [*((key, key.partition("/")[2].encode()) for key in wanted), ("many/none", None)]
    assert list(folder.read_all([], 100)) == []


def test_the_last_word_counts(folder: Storage) -> None:
    folder.write("x", b"long content")
    folder.write("x", b"short")
    assert folder.read("x") == b"short"


class Answering(http.server.BaseHTTPRequestHandler):
    """Gives every request the same answer."""

    status = 503
    document = b""

    def _answer(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.document)))
        self.end_headers()
        self.wfile.write(self.document)

    do_GET = do_PUT = do_HEAD = _answer

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def answering() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def s3(port: int) -> Storage:
    return Storage.open("s3://backups/agents", KEYS, endpoint_url=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (403, CouldNotVerify, "storage-refused"),
        (401, CouldNotVerify, "storage-refused"),
        (500, Unreachable, "storage-unreachable"),
        (503, Unreachable, "storage-unreachable"),
    ],
)
def test_a_stores_answer_becomes_an_error_with_a_hint(
    answering: http.server.ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    kind: type[CouldNotVerify],
    reason: str,
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    store = s3(answering.server_port)
    for attempt in (
        lambda: store.sizes("x/"),
        lambda: store.read("x"),
        lambda: store.write("x", b"1"),
    ):
        with pytest.raises(CouldNotVerify) as caught:
            attempt()
        assert type(caught.value) is kind
        assert caught.value.problem.reason == reason
        assert "s3://backups/agents/x" in caught.value.problem.thing
        assert "canary" not in str(caught.value)


def test_of_a_document_that_a_store_answers_with_code_and_message_are_told(
    answering: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error>{}<Code>{}</Code>\n'
        "<Message>{}</Message><BucketName>backups</BucketName></Error>"
    )
    for status, more, code, message, reason in (
        (404, "", "NoSuchBucket", "The specified bucket does not exist", "no-bucket"),
        (403, "<RequestId>1</RequestId>", "AccessDenied", "User x may not", "storage-refused"),
    ):
        monkeypatch.setattr(Answering, "status", status)
        monkeypatch.setattr(Answering, "document", document.format(more, code, message).encode())
        with pytest.raises(CouldNotVerify) as caught:
            s3(answering.server_port).sizes("x/")
        problem = caught.value.problem
        assert (
            problem.reason,
            "<" in problem.found,
            problem.found.endswith(f"{code}: {message}"),
        ) == (reason, False, True), problem
        assert not caught.value.retryable


def test_a_closed_port_is_told_in_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(Unreachable):
        s3(port).sizes()
    assert time.monotonic() - started < 15


def test_a_store_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "REQUEST_TIMEOUT", "300ms")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(Unreachable):
            s3(silent.getsockname()[1]).read("x")
    assert time.monotonic() - started < 15


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CouldNotVerify) as caught:
        Storage.open(f"file://{tmp_path}/file/below", {}).write("x", b"1")
    assert caught.value.problem.hint


def test_what_the_listing_has_and_the_store_does_not_give_is_no_missing_object(
    folder: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("kept/hold.json", b"{}")
    folder.write("hold.json", b"{}")
    # as a replica that lags behind answers
    monkeypatch.setattr("pgdrill.repository.object_store.Storage.read", lambda *_: None)
    for key in ("kept/hold.json", "hold.json"):
        with pytest.raises(Unreachable) as caught:
            list(folder.read_all([key], 100))
        assert caught.value.problem.reason == "storage-inconsistent"
    assert list(folder.read_all(["kept/other.json"], 100)) == [("kept/other.json", None)]


LISTING = """<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>
<Contents><Key>wal_005/{key}</Key>\
<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag><Size>1</Size></Contents>
</ListBucketResult>"""


@pytest.mark.parametrize("key", ["../x", "a\x7fb", "/b", "./c"])
def test_an_object_whose_name_no_tool_gives_is_told_by_name(key: str) -> None:
    """Somebody put it there, and the listing of a whole folder cannot be read for it."""

    class Store(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(LISTING.format(key=key).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        keys = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "something"}
        bucket = Storage.open(
            "s3://b/r", keys, endpoint_url=f"http://127.0.0.1:{server.server_port}"
        )
        with pytest.raises(CouldNotVerify) as caught:
            bucket.sizes("wal_005/")
        server.shutdown()
    assert caught.value.problem.reason == "unsafe-name"
    assert "remove that object" in caught.value.problem.hint


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_a_pair_of_keys_is_told_before_anything_is_asked(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Storage.open("s3://bucket/prefix", {name: "canary-half"})
    assert caught.value.problem.reason == "half-a-key"
    assert f"{name} is set and" in caught.value.problem.found
    assert "canary" not in str(caught.value)
    assert "AWS_ACCESS_KEY_ID" in caught.value.problem.hint


def test_no_key_at_all_is_told_without_a_library_s_own_words() -> None:
    with pytest.raises(NoKeys) as caught, _Explained("s3://bucket/prefix"):
        raise GenericError(
            "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 2.1s"
        )
    assert "169.254" not in str(caught.value)
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.problem.hint
