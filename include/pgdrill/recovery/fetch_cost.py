"""The costs of a fetch: seconds for each file, and seconds for each byte.

Creating and syncing a thousand small files takes as long in a cluster of 100 MB as in one ten times
as large. One fetch shows both: the kernel stamps each file when its last byte was written, so that
stretches of many small files and stretches of few large ones tell the two prices apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

STRETCHES = 24  # equal numbers of files each: few enough that parallel streams even out within one
FEWEST = 4  # files a stretch

Figures = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The files of a fetch.

    ``fixed_seconds`` would be the same with more bytes in the same files.
    """

    files: int
    bytes: int
    fixed_seconds: float


def unpacked(folders: Iterable[Path], seconds: float) -> Unpacked:
    """Look at every file below ``folders``, right after a fetch of so many ``seconds``."""
    found = sorted(
        (entry.stat(follow_symlinks=False) for folder in folders for entry in _files(folder)),
        key=lambda it: it.st_ctime,
    )
    ends, sizes = (
        np.array([getattr(file, name) for file in found], dtype=float)
        for name in ("st_ctime", "st_size")
    )
    return Unpacked(len(found), int(sizes.sum()), fixed_part(ends, sizes, seconds))


def fixed_part(ends: Figures, sizes: Figures, seconds: float) -> float:
    """Return the seconds of a fetch that do not depend on bytes, of ``seconds`` in all.

    ``ends`` are ascending, in seconds; ``sizes`` are in bytes.
    """
    stretches = min(STRETCHES, len(ends) // FEWEST)
    if stretches < 2:
        return 0.0  # nothing is known: all of it may grow
    bounds = np.linspace(0, len(ends), stretches + 1).astype(int)
    files, took = np.diff(bounds).astype(float), np.diff(np.append(ends[0], ends[bounds[1:] - 1]))
    size = np.add.reduceat(sizes, bounds[:-1])
    each_file, each_byte = np.linalg.lstsq(np.stack([files, size], axis=1), took, rcond=None)[0]
    if each_byte < 0:
        each_file, each_byte = took.sum() / files.sum(), 0.0
    elif each_file < 0:
        each_file, each_byte = 0.0, took.sum() / max(size.sum(), 1.0)
    shared = each_file * files.sum() / max(each_file * files.sum() + each_byte * size.sum(), 1e-9)
    writing = min(seconds, float(took.sum()))
    return float(seconds - writing + shared * writing)


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield entry
