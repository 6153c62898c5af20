"""An embedder of two models with the same dimensions, as while a column is embedded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pgdrill_demo.embedder import Embedder


def embed(model: str, texts: Sequence[str]) -> Any:
    """``older-…`` is another space of as many dimensions as ``hashing-…``."""
    dimensions = int(model.rpartition("-")[2])
    if not model.startswith("older-"):
        return Embedder(dimensions).embed(texts)
    made = Embedder(dimensions + 1).embed(texts)[:, :dimensions]
    return made / np.linalg.norm(made, axis=1, keepdims=True)
