"""The parts that embedders share: batches, and the refusal of what is no vector."""

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
        """Return the texts' vectors in the shape (len(texts), dimensions).

        Raises :class:`CouldNotVerify` where they cannot be had.
        """

    def close(self) -> None:
        """Give back what it holds, whatever it is doing; it may be asked again afterwards."""


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts, as many at a time as one request may hold."""
    for start in range(0, len(texts), BATCH):
        yield list(texts[start : start + BATCH])


def stacked(thing: str, answers: list[Any], expected: int) -> Vectors:
    """Return the answers as one array; refuse whatever is no rectangle of finite numbers."""
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
    """Raise :class:`CouldNotVerify` for an answer that is none."""
    raise CouldNotVerify(
        "bad-embedding",
        thing,
        found=found,
        expected="one vector of numbers for each text",
        hint=HINT,
    )
