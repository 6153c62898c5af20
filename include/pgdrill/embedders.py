"""Embedders: who turns a text into a vector again, as the application does.

Texts and keys are never shown: not in errors, not in logs. A service echoes both in its own error messages, so of
those only short error codes are repeated.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from pgdrill.config import Embeddings
from pgdrill.errors import CouldNotVerify, TimedOut, Unreachable

Vectors = npt.NDArray[np.float32]
BATCH = 32
ATTEMPTS = 4
LONGEST_WAIT_SECONDS = 30.0
RESPONSE_BYTES = 64 * 2**20
CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
MEND = "check embeddings.embedder and its other keys in dr.toml, and what answers there"


class Embedder(Protocol):
    """Turns texts into vectors, one row each, by the model of that name."""

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimensions). Raises :class:`CouldNotVerify` where that cannot be had."""


def make_embedder(settings: Embeddings, environment: Mapping[str, str] = os.environ) -> Embedder | None:
    """The configured embedder; None where none is configured."""
    if not settings.embedder:
        return None
    if settings.embedder == "http":
        return HttpEmbedder(settings.url, _key(settings, environment), settings.timeout_seconds)
    return CallableEmbedder(settings.embedder.removeprefix("python:"))


def _key(settings: Embeddings, environment: Mapping[str, str]) -> str:
    name = settings.api_key_variable
    if name and not environment.get(name):
        raise CouldNotVerify(
            "no-api-key", f"environment variable {name}", found="not set", expected="the embedding service's key",
            mend="set it where drills run (with Airflow: on the worker), or correct embeddings.api_key_variable",
        )  # fmt: skip
    return environment[name].strip() if name else ""


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), BATCH):
        yield list(texts[start : start + BATCH])


def _stacked(thing: str, answers: list[Any], expected: int) -> Vectors:
    """Answers as one array; whatever is no rectangle of finite numbers is refused."""
    try:
        vectors = np.asarray(answers, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        _refuse(thing, "vectors of several lengths, or no numbers")
    if vectors.ndim != 2 or len(vectors) != expected or vectors.shape[1] == 0:
        _refuse(thing, f"an array of shape {vectors.shape} for {expected} texts")
    if not np.isfinite(vectors).all():
        _refuse(thing, "NaN or infinity")
    return vectors


def _refuse(thing: str, found: str) -> NoReturn:
    raise CouldNotVerify("bad-embedding", thing, found=found, expected="one vector of numbers for each text", mend=MEND)


@dataclass(frozen=True)
class CallableEmbedder:
    """``module:callable``, called with the model's name and a list of texts."""

    path: str

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Call it, batch by batch."""
        function = self._function()
        answers: list[Any] = []
        for batch in _batches(texts):
            try:
                answers.extend(function(model, batch))
            except Exception as error:
                # Only the error's type: its message may quote the text.
                raise CouldNotVerify(
                    "embedder-failed", f"embedder {self.path}, model {model}", found=f"{type(error).__name__} raised",
                    expected="vectors", mend="call it by hand with that model and any text",
                ) from None  # fmt: skip
        return _stacked(f"embedder {self.path}, model {model}", answers, len(texts))

    def _function(self) -> Callable[[str, list[str]], Any]:
        module, _, name = self.path.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise CouldNotVerify(
                "no-embedder", f"embedder {self.path}", found=str(error), expected="an importable module:callable",
                mend="install it where drills run, or correct embeddings.embedder in dr.toml",
            ) from None  # fmt: skip
        return function  # type: ignore[no-any-return]


class _TryAgain(Exception):
    """A failed request that may work a moment later; ``problem`` is raised if it never does."""

    def __init__(self, problem: CouldNotVerify, after_seconds: float | None = None) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.after_seconds = after_seconds


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Texts and key go to the configured address and to no other."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Do not follow: the answer is an error like any other."""
        return


@dataclass(frozen=True)
class HttpEmbedder:
    """An OpenAI-compatible API: ``POST {url}/embeddings``. 429, 5xx and a broken line are tried again."""

    url: str
    key: str = field(default="", repr=False)
    timeout_seconds: float = 60.0
    first_wait_seconds: float = 0.5

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Ask, batch by batch."""
        answers: list[Any] = []
        for batch in _batches(texts):
            answers.extend(self._batch(model, batch))
        return _stacked(self._thing(model), answers, len(texts))

    def _thing(self, model: str) -> str:
        return f"embedding service {self.url}, model {model}"

    def _batch(self, model: str, texts: list[str]) -> list[Any]:
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS), wait=self._wait, retry=retry_if_exception_type(_TryAgain), reraise=True
        )
        try:
            answer = retrying(self._post, model, texts)
        except _TryAgain as last:
            raise last.problem from None
        try:
            ordered = sorted(json.loads(answer)["data"], key=lambda item: int(item["index"]))
            vectors = [item["embedding"] for item in ordered]
        except (ValueError, KeyError, TypeError):
            _refuse(self._thing(model), "no JSON of the form {data: [{index, embedding}]}")
        if [item["index"] for item in ordered] != list(range(len(texts))):
            _refuse(self._thing(model), f"{len(ordered)} vectors, not numbered 0 to {len(texts) - 1}")
        return vectors

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.after_seconds if isinstance(error, _TryAgain) else None
        own = self.first_wait_seconds * 2.0 ** (state.attempt_number - 1)
        return min(max(asked or 0.0, own), LONGEST_WAIT_SECONDS)

    def _post(self, model: str, texts: list[str]) -> bytes:
        body = json.dumps({"model": model, "input": texts}).encode()
        request = urllib.request.Request(f"{self.url}/embeddings", data=body, method="POST")  # noqa: S310 - config allows http(s) only
        request.add_header("Content-Type", "application/json")
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        thing = self._thing(model)
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout_seconds) as answer:
                content: bytes = answer.read(RESPONSE_BYTES)
                return content
        except urllib.error.HTTPError as error:
            self._explain(thing, error)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                late = TimedOut("embedder-timeout", thing, found=f"no answer in {self.timeout_seconds:g} s",
                                expected="vectors", mend="see what slows it, or raise embeddings.timeout_seconds")  # fmt: skip
                raise _TryAgain(late) from None
            raise _TryAgain(Unreachable(
                "embedder-unreachable", thing, found=f"{type(reason).__name__}: {getattr(reason, 'strerror', None) or 'broken off'}",
                expected="an answer", mend="check embeddings.url, and that this host may connect there",
            )) from None  # fmt: skip

    def _explain(self, thing: str, error: urllib.error.HTTPError) -> NoReturn:
        with error:
            found = f"HTTP {error.code}{self._code(error)}"
            after = error.headers.get("Retry-After", "")
        kind = Unreachable if error.code == 429 or error.code >= 500 else CouldNotVerify
        mend = "check the variable named by embeddings.api_key_variable" if error.code in (401, 403) else MEND
        problem = kind("embedder-refused", thing, found=found, expected="HTTP 200 with vectors", mend=mend)
        if kind is Unreachable:
            raise _TryAgain(problem, float(after) if after.isdecimal() else None) from None
        raise problem from None

    def _code(self, error: urllib.error.HTTPError) -> str:
        """The service's error code if it is one short word; its message may quote key and text."""
        try:
            found = json.loads(error.read(65_536))["error"]
            code = found.get("code") or found.get("type") if isinstance(found, dict) else None
        except (OSError, HTTPException, ValueError, KeyError, TypeError):
            return ""
        if not isinstance(code, str) or not CODE.fullmatch(code) or (self.key and self.key in code):
            return ""
        return f" ({code})"
