"""One fetch tells what its files cost and what its bytes cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.recovery.fetch_cost import fixed_part, unpacked

MB = 1e6


def fetched(sizes: np.ndarray, file_seconds: float, byte_seconds: float) -> np.ndarray:
    """When each file's last byte would be written, of a tool that starts for half a second."""
    return np.asarray(0.5 + np.cumsum(file_seconds + byte_seconds * sizes))


def cluster() -> np.ndarray:
    """Many small files, some large ones among them."""
    sizes = np.random.default_rng(1).choice(
        [8192.0, 16384.0, 0.0, 20 * MB], size=2000, p=[0.6, 0.29, 0.1, 0.01]
    )
    return np.asarray(sizes)


def test_seconds_for_files_are_told_from_seconds_for_bytes() -> None:
    sizes = cluster()
    ends = fetched(sizes, 0.001, 2e-9)
    assert fixed_part(ends, sizes, float(ends[-1])) == pytest.approx(0.5 + 2000 * 0.001, rel=0.02)


def test_what_one_fetch_tells_holds_for_four_times_the_bytes() -> None:
    sizes = cluster()
    ends, larger = fetched(sizes, 0.0007, 3e-9), fetched(4 * sizes, 0.0007, 3e-9)
    fixed = fixed_part(ends, sizes, float(ends[-1]))
    assert fixed + 4 * (ends[-1] - fixed) == pytest.approx(larger[-1], rel=0.02)


def test_of_a_few_files_nothing_is_known_and_all_may_grow() -> None:
    assert fixed_part(np.array([1.0, 2.0]), np.array([MB, MB]), 3.0) == 0.0


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1e9)), min_size=8, max_size=200),
    st.floats(0, 100),
)
def test_the_fixed_part_is_never_more_than_the_whole(
    files: list[tuple[float, float]], extra: float
) -> None:
    steps, sizes = (np.array(column) for column in zip(*files, strict=True))
    ends = np.cumsum(steps)
    seconds = float(ends[-1]) + extra
    assert -1e-6 <= fixed_part(ends, sizes, seconds) <= seconds + 1e-6


def test_every_file_below_the_folders_is_counted(tmp_path: Path) -> None:
    for name in ("a/x", "a/b/y", "c/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"123")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "c")
    found = unpacked((tmp_path / "a", tmp_path / "c"), 1.0)
    assert (found.files, found.bytes) == (3, 9)
