"""Embedders, against a real server that speaks the OpenAI protocol, and against callables: never a
key, never a text.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pgdrill.checks.canary_sample import found_share, off_target
from pgdrill.config import Embeddings
from pgdrill.errors import CouldNotVerify, TimedOut, Unreachable
from pgdrill.vectors.embedders import BATCH, CallableEmbedder, HttpEmbedder, make_embedder

KEY = "sk-very-secret-key"
TEXT = "a patient's own words"
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Service:
    """A real HTTP server; ``answer`` gets each request's number (from 0) and JSON."""

    url: str = ""
    answer: Callable[[int, dict[str, Any]], Answer] = lambda number, asked: good(asked)
    paths: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    def embedder(self, **more: Any) -> HttpEmbedder:
        return HttpEmbedder(self.url, **{"key": KEY, "first_wait_seconds": 0.01, **more})


def good(asked: dict[str, Any]) -> Answer:
    """Vectors that say which text they are of, in any order, as the protocol allows."""
    data = [
        {"object": "embedding", "index": i, "embedding": [float(len(text)), 1.0, 0.5]}
        for i, text in enumerate(asked["input"])
    ]
    return (
        200,
        {},
        json.dumps({"object": "list", "data": data[::-1], "model": asked["model"]}).encode(),
    )


def failing(code: int, message: str = "", error_code: str = "", **headers: str) -> Answer:
    body = json.dumps(
        {"error": {"message": message, "type": "some_error", "code": error_code or None}}
    ).encode()
    return code, {name.replace("_", "-"): value for name, value in headers.items()}, body


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.paths.append(self.path)
            found.asked.append(asked)
            found.authorization.append(self.headers["Authorization"])
            code, headers, body = found.answer(len(found.asked) - 1, asked)
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # a followed redirect would come as one

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        found.release.set()
        server.shutdown()
        server.server_close()


def refused(
    embedder: HttpEmbedder | CallableEmbedder, texts: list[str] | None = None
) -> CouldNotVerify:
    with contextlib.closing(embedder), pytest.raises(CouldNotVerify) as caught:
        embedder.embed("some-model", texts or [TEXT])
    shown = str(caught.value) + repr(embedder) + repr(caught.value.__cause__)
    assert KEY not in shown
    assert TEXT not in shown
    assert all(
        (caught.value.problem.found, caught.value.problem.expected, caught.value.problem.hint)
    )
    return caught.value


def test_texts_go_in_batches_and_vectors_come_back_in_their_order(service: Service) -> None:
    texts = ["x" * (i + 1) for i in range(2 * BATCH + 3)]
    vectors = service.embedder().embed("some-model", texts)
    assert vectors.shape == (len(texts), 3)
    assert vectors[:, 0].tolist() == [float(len(text)) for text in texts]
    assert [len(asked["input"]) for asked in service.asked] == [BATCH, BATCH, 3]
    assert {asked["model"] for asked in service.asked} == {"some-model"}
    assert set(service.paths) == {"/v1/embeddings"}
    assert set(service.authorization) == {f"Bearer {KEY}"}


def test_without_a_key_none_is_sent(service: Service) -> None:
    service.embedder(key="").embed("m", [TEXT])
    assert service.authorization == [None]


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_service_is_asked_again(service: Service, code: int) -> None:
    service.answer = lambda number, asked: (
        failing(code, Retry_After="0") if number < 2 else good(asked)
    )
    assert service.embedder().embed("m", [TEXT]).shape == (1, 3)
    assert len(service.asked) == 3


def test_the_service_says_how_long_to_wait(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    service.answer = lambda number, asked: (
        failing(429, Retry_After=("7", "9999")[number]) if number < 2 else good(asked)
    )
    service.embedder().embed("m", [TEXT])
    assert waited == [7, 30]


def test_a_service_that_stays_busy_is_named(service: Service) -> None:
    service.answer = lambda number, asked: failing(
        503, f"cannot embed {asked['input'][0]} for {KEY}", "overloaded"
    )
    error = refused(service.embedder())
    assert isinstance(error, Unreachable)
    assert error.problem.found == "HTTP 503 (overloaded)"
    assert service.url in error.problem.thing
    assert len(service.asked) == 4


def test_a_refused_key_is_not_tried_again_and_not_shown(service: Service) -> None:
    service.answer = lambda number, asked: failing(
        401, f"Incorrect API key provided: {KEY}", "invalid_api_key"
    )
    error = refused(service.embedder())
    assert error.problem.found == "HTTP 401 (invalid_api_key)"
    assert "api_key_variable" in error.problem.hint
    assert len(service.asked) == 1


def test_an_error_code_that_is_a_sentence_is_not_shown(service: Service) -> None:
    service.answer = lambda number, asked: failing(400, error_code=asked["input"][0])
    assert refused(service.embedder()).problem.found == "HTTP 400"


def test_a_redirect_takes_neither_texts_nor_key_elsewhere(service: Service) -> None:
    service.answer = lambda number, asked: (302, {"Location": f"{service.url}/elsewhere"}, b"")
    assert refused(service.embedder()).problem.found == "HTTP 302"
    assert service.paths == ["/v1/embeddings"]


def test_a_service_that_does_not_answer_in_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgdrill.vectors.embedders.http.ATTEMPTS", 2)

    def hang(number: int, asked: dict[str, Any]) -> Answer:
        service.release.wait(20)
        return good(asked)

    service.answer = hang
    error = refused(service.embedder(timeout_seconds=0.2))
    assert isinstance(error, TimedOut)
    assert error.problem.reason == "embedder-timeout"


def test_a_service_that_is_not_there() -> None:
    error = refused(HttpEmbedder("http://127.0.0.1:9", KEY, first_wait_seconds=0.01))
    assert isinstance(error, Unreachable)
    assert error.problem.found.startswith("ConnectionRefusedError")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"data": 1}',
        b'{"data": []}',
        b'{"data": [{"index": 1, "embedding": [1]}]}',
        b'{"data": [{"index": 0}]}',
        b'{"data": [{"index": 0, "embedding": []}]}',
        b'{"data": [{"index": 0, "embedding": "AAAA"}]}',
        b'{"data": [{"index": 0, "embedding": [NaN]}]}',
        b'{"data": [{"index": 0, "embedding": [1e999]}]}',
        b'{"data": [{"index": 0, "embedding": [[1]]}]}',
        b'{"data": [{"index": 0, "embedding": [null]}]}',
    ],
)
def test_an_answer_of_another_form_is_refused(service: Service, body: bytes) -> None:
    service.answer = lambda number, asked: (200, {}, body)
    assert refused(service.embedder()).problem.reason == "bad-embedding"


def test_vectors_of_several_lengths_are_refused(service: Service) -> None:
    data = [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1]}]
    service.answer = lambda number, asked: (200, {}, json.dumps({"data": data}).encode())
    assert refused(service.embedder(), [TEXT, "another"]).problem.reason == "bad-embedding"


# --- Callables and the choice ---


def shouting(model: str, texts: list[str]) -> list[list[float]]:
    raise RuntimeError(f"cannot embed {texts} with {KEY}")


def short(model: str, texts: list[str]) -> list[list[float]]:
    return [[1.0]] * (len(texts) - 1)


def killed(model: str, texts: list[str]) -> list[list[float]]:
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory is short
    return []


def stuck(model: str, texts: list[str]) -> list[list[float]]:
    threading.Event().wait()
    return []


def test_a_callable_gets_batches() -> None:
    with contextlib.closing(CallableEmbedder("pgdrill_demo.embedder:embed")) as embedder:
        vectors = embedder.embed("hashing-8", ["some words"] * (BATCH + 1))
    assert vectors.shape == (BATCH + 1, 8)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("tests.unit.vectors.test_embedders:shouting", "embedder-failed"),
        ("tests.unit.vectors.test_embedders:short", "bad-embedding"),
        ("no.such.module:embed", "no-embedder"),
        ("pgdrill_demo.embedder:nothing", "no-embedder"),
    ],
)
def test_a_callable_that_fails_is_named(path: str, reason: str) -> None:
    error = refused(CallableEmbedder(path))
    assert error.problem.reason == reason
    assert path in error.problem.thing


def test_a_callable_may_print_and_is_found_where_the_drill_finds_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talkative.py").write_text(
        "def embed(model, texts):\n    print('loading', model)\n    return [[1.0, 2.0]] *"
        " len(texts)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with contextlib.closing(CallableEmbedder("talkative:embed")) as embedder:
        assert embedder.embed("m", ["a"]).tolist() == [[1.0, 2.0]]
        assert embedder.embed("m", ["a", "b"]).shape == (2, 2)


def test_a_callable_that_takes_its_process_along_costs_its_answers_only() -> None:
    error = refused(CallableEmbedder("tests.unit.vectors.test_embedders:killed"))
    assert error.problem.reason == "embedder-failed"
    assert "exit code -9" in error.problem.found
    assert "memory" in error.problem.hint


def test_closing_ends_a_callable_that_never_answers() -> None:
    def children() -> list[psutil.Process]:
        return [
            process
            for process in psutil.Process().children()
            if "child.py" in " ".join(process.cmdline())
        ]

    def close() -> None:
        while not children():
            assert asking.is_alive()
        embedder.close()

    embedder = CallableEmbedder("tests.unit.vectors.test_embedders:stuck")
    asking = threading.current_thread()
    closing = threading.Thread(target=close)
    closing.start()
    assert refused(embedder).problem.reason == "embedder-failed"
    closing.join()
    assert not children()


def test_the_config_chooses() -> None:
    assert make_embedder(Embeddings()) is None
    assert make_embedder(Embeddings(embedder="python:a.b:c")) == CallableEmbedder("a.b:c")
    settings = Embeddings(
        embedder="http", url="https://api.example/v1/", api_key_variable="EMBEDDING_KEY"
    )
    made = make_embedder(settings, {"EMBEDDING_KEY": f" {KEY}\n"})
    assert made == HttpEmbedder("https://api.example/v1", KEY, 60)
    assert KEY not in repr(made)
    with pytest.raises(CouldNotVerify, match="EMBEDDING_KEY"):
        make_embedder(settings, {})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"embedder": "openai"}, "http or python:module:callable"),
        ({"embedder": "python:os;x:y"}, "python:module:callable"),
        ({"embedder": "http"}, "needs url"),
        ({"url": "file:///etc/passwd"}, "must be http"),
        ({"url": "https://user:word@host"}, "credentials"),
        ({"api_key_variable": KEY}, "never stands here"),
        ({"models": {"embedding": "m@1"}}, "table.column"),
        ({"models": {"t.c": "m"}}, "model@version"),
        ({"canary_rows": 0}, "greater"),
    ],
)
def test_a_wrong_setting_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Embeddings(**settings)


# --- Where vectors land ---

MADE = np.eye(4, dtype=np.float32)


def test_vectors_within_the_tolerance_are_right_and_others_are_named() -> None:
    stored = [MADE[0] * 1.005, MADE[1] + 0.001, -MADE[2], MADE[3] * 1.5]
    assert off_target(list(stored), MADE, 0.01) == [2, 3]


@pytest.mark.parametrize(
    "wrong", [np.zeros(4), np.full(4, np.nan), np.array([np.inf, 0, 0, 0]), np.ones(3), np.ones(5)]
)
def test_what_has_no_direction_or_another_size_is_off(wrong: np.ndarray[Any, Any]) -> None:
    assert off_target([wrong.astype(np.float32), *MADE[1:]], MADE, 0.01) == [0]
    assert off_target([wrong.astype(np.float32)], MADE[:1], 0.01) == [0]


def test_an_application_may_normalize_all_vectors_but_not_some() -> None:
    made = MADE * 12
    assert off_target(list(MADE), made, 0.01) == []
    assert off_target([made[0], *MADE[1:]], made, 0.01) == [0]
    assert off_target([*made[:3], MADE[3]], made, 0.01) == [3]


def test_the_share_that_is_found_falls_with_the_rows_looked_at() -> None:
    assert found_share(20) == pytest.approx(0.139, abs=0.001)
    assert found_share(300) == pytest.approx(0.01, abs=0.0005)
