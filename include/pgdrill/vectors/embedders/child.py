"""The other side of :class:`~pgdrill.vectors.embedders.CallableEmbedder`.

It imports the callable, and answers each line with one. It is run as a file, so that nothing else
is imported. Of an error only its type is told: its message may quote the text.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import IO, Any


def main() -> None:
    """Answer until the other side closes, or dies."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a model prints is no answer
    order = json.loads(sys.stdin.readline())
    sys.path += [place for place in order["path"] if place not in sys.path]
    module, _, name = order["callable"].partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        _tell(answers, {"missing": str(error)})
        return
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            found = function(asked["model"], asked["texts"])
        except Exception as error:
            _tell(answers, {"raised": type(error).__name__})
        else:
            _give(answers, found)


def _give(answers: IO[bytes], found: Any) -> None:
    import numpy as np  # the callable has very likely done so

    try:
        vectors = np.atleast_1d(np.ascontiguousarray(found, dtype=np.float32))
    except (ValueError, TypeError, OverflowError):
        _tell(answers, {"no": "array"})
    else:
        _tell(answers, {"shape": vectors.shape, "bytes": vectors.nbytes}, vectors.tobytes())


def _tell(answers: IO[bytes], words: dict[str, Any], content: bytes = b"") -> None:
    answers.write(json.dumps(words).encode() + b"\n" + content)
    answers.flush()


if __name__ == "__main__":
    main()
