"""Embedders: they turn a text into a vector again, as the application does.

Texts and keys are never shown: not in errors, not in logs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pgdrill.config import Embeddings
from pgdrill.errors import CouldNotVerify
from pgdrill.vectors.embedders.base import BATCH, Embedder, Vectors
from pgdrill.vectors.embedders.callable import CallableEmbedder
from pgdrill.vectors.embedders.http import HttpEmbedder

__all__ = ["BATCH", "CallableEmbedder", "Embedder", "HttpEmbedder", "Vectors", "make_embedder"]


def make_embedder(
    settings: Embeddings, environment: Mapping[str, str] = os.environ
) -> Embedder | None:
    """Return the configured embedder; None where none is configured."""
    if not settings.embedder:
        return None
    if settings.embedder == "http":
        return HttpEmbedder(settings.url, _key(settings, environment), settings.timeout_seconds)
    return CallableEmbedder(settings.embedder.removeprefix("python:"))


def _key(settings: Embeddings, environment: Mapping[str, str]) -> str:
    name = settings.api_key_variable
    if name and not environment.get(name):
        raise CouldNotVerify(
            "no-api-key",
            f"environment variable {name}",
            found="not set",
            expected="the embedding service's key",
            hint=(
                "set it where drills run (with Airflow: on the worker), or correct"
                " embeddings.api_key_variable"
            ),
        )
    return environment[name].strip() if name else ""
