"""A callable of the user's own, in a process of its own.

Its memory is given back, and its crash costs its answers and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pgdrill.errors import CouldNotVerify
from pgdrill.host.priority import low_priority_words
from pgdrill.host.process import end_group
from pgdrill.vectors.embedders.base import Vectors, batches, refuse, stacked

CHILD = Path(__file__).with_name("child.py")


@dataclass
class CallableEmbedder:
    """Calls ``module:callable`` with the model's name and a list of texts.

    The process starts when it is first asked.
    """

    path: str
    _process: subprocess.Popen[bytes] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    # false again once it is closed
    _wanted: bool = field(default=False, init=False, repr=False, compare=False)

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Return the texts' vectors from the callable, called batch by batch."""
        self._wanted = True
        answers: list[Any] = []
        for batch in batches(texts):
            answers.extend(self._answer(model, batch))
        return stacked(self._thing(model), answers, len(texts))

    def close(self) -> None:
        """End the process; one that is just being started ends itself."""
        self._wanted = False
        process, self._process = self._process, None
        if process:
            end_group(process.pid)
            process.communicate()

    def _thing(self, model: str) -> str:
        return f"embedder {self.path}, model {model}"

    def _answer(self, model: str, texts: list[str]) -> Vectors:
        process = self._process = self._process or self._start()
        if not self._wanted:
            self.close()
        assert process.stdout  # noqa: S101 - a pipe
        answer, content = {}, b""
        # it ended, or was closed meanwhile: no answer, or a part of one
        with contextlib.suppress(BrokenPipeError, ValueError):
            _tell(process, {"model": model, "texts": texts})
            answer = json.loads(process.stdout.readline())
            content = process.stdout.read(answer.get("bytes", 0))
        if not answer or len(content) != answer.get("bytes", 0):
            code = process.wait()
            self.close()
            raise CouldNotVerify(
                "embedder-failed",
                self._thing(model),
                found=f"its process ended with exit code {code}",
                expected="vectors",
                hint=(
                    "call it by hand with that model and any text; a process that is killed (-9)"
                    " has often had too little memory"
                ),
            )
        if "missing" in answer:
            raise CouldNotVerify(
                "no-embedder",
                f"embedder {self.path}",
                found=answer["missing"],
                expected="an importable module:callable",
                hint="install it where drills run, or correct embeddings.embedder in dr.toml",
            )
        if "raised" in answer:
            raise CouldNotVerify(
                "embedder-failed",
                self._thing(model),
                found=f"{answer['raised']} raised",
                expected="vectors",
                hint="call it by hand with that model and any text",
            )
        if "shape" not in answer:
            refuse(self._thing(model), "vectors of several lengths, or no numbers")
        return np.frombuffer(content, dtype=np.float32).reshape(answer["shape"])

    def _start(self) -> subprocess.Popen[bytes]:
        # -P: modules beside child.py are none of the callable's business.
        process = subprocess.Popen(
            [*low_priority_words(), sys.executable, "-P", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            _tell(process, {"path": sys.path, "callable": self.path})
        return process


def _tell(process: subprocess.Popen[bytes], words: dict[str, Any]) -> None:
    assert process.stdin  # noqa: S101 - a pipe
    process.stdin.write(json.dumps(words).encode() + b"\n")
    process.stdin.flush()
