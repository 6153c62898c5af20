"""The demo's embedding model: the same bits everywhere, unit vectors, and neighbours that mean
something.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import pgdrill_demo
from pgdrill_demo.embedder import Embedder
from pgdrill_demo.texts import VERTICALS, passages

DIGEST_OF_384 = "26d83edfb8f2232f9853e020070083851e0ed40009daffa42b26e97ba0319c50"
"""Of three known texts. If it changes, the model changed: raise Embedder.version."""

TEXTS = (
    "high blood pressure, an ACE inhibitor is started",
    "a cottage by the lake with a sauna",
    "Größe: 42 m²",
)

HASH_IN_A_NEW_PROCESS = """
import hashlib, json, sys
from pgdrill_demo.embedder import Embedder
print(hashlib.sha256(Embedder(384).embed(json.loads(sys.argv[1])).tobytes()).hexdigest())
"""


def test_the_same_text_gives_the_same_bits_whatever_the_process_and_its_hash_seed() -> None:
    here = hashlib.sha256(Embedder(384).embed(TEXTS).tobytes()).hexdigest()
    there = set()
    for hash_seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": str(Path(pgdrill_demo.__file__).parents[1]),
        }
        done = subprocess.run(
            [sys.executable, "-c", HASH_IN_A_NEW_PROCESS, json.dumps(TEXTS)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        there.add(done.stdout.strip())
    assert there == {here} == {DIGEST_OF_384}


@pytest.mark.parametrize("dimensions", [2, 384, 1536, 3072])
def test_vectors_are_unit_length_and_float32(dimensions: int) -> None:
    vectors = Embedder(dimensions).embed([*passages("sales", 20, seed=1), "", "the of and"])
    assert vectors.shape == (22, dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)


def test_a_text_is_embedded_alike_alone_and_in_company() -> None:
    model = Embedder(384)
    texts = passages("healthcare", 50, seed=2)
    np.testing.assert_array_equal(model.embed(texts)[7], model.embed(texts[7:8])[0])


def test_no_texts_give_no_vectors() -> None:
    assert Embedder(384).embed([]).shape == (0, 384)


def test_too_few_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Embedder(1)


def test_the_name_carries_the_dimensions() -> None:
    assert (Embedder(1536).name, Embedder(1536).version) == ("hashing-1536", "1")


@pytest.mark.parametrize("dimensions", [384, 1536, 3072])
def test_similar_texts_are_nearer_than_dissimilar_ones(dimensions: int) -> None:
    anchor, reworded, elsewhere = Embedder(dimensions).embed(
        [
            "Nurse Novak notes asthma attacks; wheezing on both lungs. Spirometry is booked.",
            (
                "The family asks about asthma attacks at night; the lungs are wheezing. Spirometry"
                " was booked."
            ),
            (
                "A warehouse with loading docks; clear height is ten metres. Trucks can turn in the"
                " yard."
            ),
        ]
    )
    assert anchor @ reworded > 0.4 > 0.2 > anchor @ elsewhere


def test_nearest_neighbours_stay_within_their_vertical() -> None:
    texts = [
        text
        for number, vertical in enumerate(VERTICALS)
        for text in passages(vertical, 400, seed=number)
    ]
    vectors = Embedder(384).embed(texts)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    nearest = np.argsort(-similarity, axis=1)[:, :5] // 400
    own = np.arange(len(texts))[:, None] // 400
    assert (nearest == own).mean() > 0.97


def test_generated_texts_repeat_for_a_seed_and_hardly_within_one() -> None:
    texts = passages("real_estate", 3000, seed=5)
    assert texts == passages("real_estate", 3000, seed=5)
    assert texts != passages("real_estate", 3000, seed=6)
    assert len(set(texts)) > 2990
    assert all(first != second for first, second in pairwise(texts))
