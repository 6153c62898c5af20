"""An OpenAI-compatible service.

It echoes texts and keys in its error messages, so only short codes are repeated of those.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, NoReturn

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from pgdrill.errors import CouldNotVerify, TimedOut, Unreachable
from pgdrill.vectors.embedders.base import HINT, Vectors, batches, refuse, stacked

ATTEMPTS = 4
LONGEST_WAIT_SECONDS = 30.0
RESPONSE_BYTES = 64 * 2**20
CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


class _TryAgain(Exception):
    """A failed request that may work a moment later; ``problem`` is raised if it never does."""

    def __init__(self, problem: CouldNotVerify, after_seconds: float | None = None) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.after_seconds = after_seconds


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Sends texts and key to the configured address and to no other."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Do not follow: the answer is an error like any other."""
        return


@dataclass(frozen=True)
class HttpEmbedder:
    """An OpenAI-compatible API: ``POST {url}/embeddings``.

    429, 5xx and a broken line are tried again.
    """

    url: str
    key: str = field(default="", repr=False)
    timeout_seconds: float = 60.0
    first_wait_seconds: float = 0.5

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Return the texts' vectors from the service, asked batch by batch."""
        answers: list[Any] = []
        for batch in batches(texts):
            answers.extend(self._batch(model, batch))
        return stacked(self._thing(model), answers, len(texts))

    def close(self) -> None:
        """Do nothing: nothing is held between requests."""

    def _thing(self, model: str) -> str:
        return f"embedding service {self.url}, model {model}"

    def _batch(self, model: str, texts: list[str]) -> list[Any]:
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=self._wait,
            retry=retry_if_exception_type(_TryAgain),
            reraise=True,
        )
        try:
            answer = retrying(self._post, model, texts)
        except _TryAgain as last:
            raise last.problem from None
        try:
            ordered = sorted(json.loads(answer)["data"], key=lambda item: int(item["index"]))
            vectors = [item["embedding"] for item in ordered]
        except (ValueError, KeyError, TypeError):
            refuse(self._thing(model), "no JSON of the form {data: [{index, embedding}]}")
        if [item["index"] for item in ordered] != list(range(len(texts))):
            refuse(
                self._thing(model), f"{len(ordered)} vectors, not numbered 0 to {len(texts) - 1}"
            )
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
            with urllib.request.build_opener(_NoRedirect).open(
                request, timeout=self.timeout_seconds
            ) as answer:
                content: bytes = answer.read(RESPONSE_BYTES)
                return content
        except urllib.error.HTTPError as error:
            self._explain(thing, error)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                late = TimedOut(
                    "embedder-timeout",
                    thing,
                    found=f"no answer in {self.timeout_seconds:g} s",
                    expected="vectors",
                    hint="see what slows it, or raise embeddings.timeout_seconds",
                )
                raise _TryAgain(late) from None
            raise _TryAgain(
                Unreachable(
                    "embedder-unreachable",
                    thing,
                    found=(
                        f"{type(reason).__name__}:"
                        f" {getattr(reason, 'strerror', None) or 'broken off'}"
                    ),
                    expected="an answer",
                    hint="check embeddings.url, and that this host may connect there",
                )
            ) from None

    def _explain(self, thing: str, error: urllib.error.HTTPError) -> NoReturn:
        with error:
            found = f"HTTP {error.code}{self._code(error)}"
            after = error.headers.get("Retry-After", "")
        kind = Unreachable if error.code == 429 or error.code >= 500 else CouldNotVerify
        hint = (
            "check the variable named by embeddings.api_key_variable"
            if error.code in (401, 403)
            else HINT
        )
        problem = kind(
            "embedder-refused", thing, found=found, expected="HTTP 200 with vectors", hint=hint
        )
        if kind is Unreachable:
            raise _TryAgain(problem, float(after) if after.isdecimal() else None) from None
        raise problem from None

    def _code(self, error: urllib.error.HTTPError) -> str:
        """Return the service's error code if it is one short word; its message may quote secrets.

        These are the key and the text.
        """
        try:
            found = json.loads(error.read(65_536))["error"]
            code = found.get("code") or found.get("type") if isinstance(found, dict) else None
        except (OSError, HTTPException, ValueError, KeyError, TypeError):
            return ""
        if not isinstance(code, str) or not CODE.fullmatch(code) or (self.key and self.key in code):
            return ""
        return f" ({code})"
