"""The probe tells a rate of the store and of the disk, whatever the store makes of ranges."""

from __future__ import annotations

from pathlib import Path

from pgdrill.reports.forecast.probe import PIECE_BYTES, probe
from pgdrill_demo.stack import Stack


def test_objects_larger_and_smaller_than_a_piece_are_read(stack: Stack, tmp_path: Path) -> None:
    repository, objects = stack.access.objects, {}
    for key, size in {"probed/large": 2 * PIECE_BYTES + 5, "probed/small": 3}.items():
        repository.write(key, bytes(size))
        objects[key] = size
    found = probe(repository, objects, tmp_path / "work", streams=2)
    for key in objects:
        repository.delete(key)
    assert found.streams == 2
    assert min(found.store, found.store_doubled, found.disk) > PIECE_BYTES / 10
    assert not list((tmp_path / "work").iterdir())
