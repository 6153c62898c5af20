"""What embedders share: batches, and the refusal of what is no vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from pgdrill.errors import CouldNotVerify

Vectors = npt.NDArray[np.float32]
BATCH = 32
HINT = "check embeddings.embedder and its other keys in dr.toml, and what answers there"


class Embedder(Protocol):
    """Turns texts into vectors, one row each, by the model of that name."""

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimensions). Raises :class:`CouldNotVerify` where that cannot be
        had."""

    def close(self) -> None:
        """Give back what it holds, whatever it is doing; it may be asked again afterwards."""


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts, as many at a time as one request may hold."""
    for start in range(0, len(texts), BATCH):
        yield list(texts[start : start + BATCH])


def stacked(thing: str, answers: list[Any], expected: int) -> Vectors:
    """Answers as one array; whatever is no rectangle of finite numbers is refused."""
    try:
        vectors = np.asarray(answers, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        refuse(thing, "vectors of several lengths, or no numbers")
    if vectors.ndim != 2 or len(vectors) != expected or vectors.shape[1] == 0:
        refuse(thing, f"an array of shape {vectors.shape} for {expected} texts")
    if not np.isfinite(vectors).all():
        refuse(thing, "NaN or infinity")
    return vectors


def refuse(thing: str, found: str) -> NoReturn:
    """What came is no answer."""
    raise CouldNotVerify(
        "bad-embedding",
        thing,
        found=found,
        expected="one vector of numbers for each text",
        hint=HINT,
    )
