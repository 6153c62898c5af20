"""The building of vector indexes.

What memory they need, what this machine can give, and how long it took.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from pgdrill.logical.manifest import VectorIndex

MIB = 2**20
SMALLEST_MEMORY_BYTES = 64 * MIB  # PostgreSQL's own default
LEFT_TO_OTHERS = 0.3  # of the memory that is free: page cache and the backends themselves
SPARE = 1.15
MEMORY_LIMIT = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))
ELEMENT_BYTES = {"vector": 4.0, "halfvec": 2.0, "bit": 0.125}
DEFAULTS = {"m": 16, "ef_construction": 64, "lists": 100}


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Memory and workers for one build, each with its reason.

    ``fits``: the whole graph is built in memory.
    """

    needed_bytes: int
    memory_bytes: int
    workers: int
    fits: bool
    reason: str

    @property
    def options(self) -> str:
        """The ``PGOPTIONS`` of the session that builds."""
        return (
            f"-c maintenance_work_mem={self.memory_bytes // 1024}kB -c"
            f" max_parallel_maintenance_workers={self.workers}"
        )


def option(index: VectorIndex, name: str) -> int:
    """Return an index option, or pgvector's default."""
    given = dict(text.split("=", 1) for text in index.options)
    return int(given.get(name, DEFAULTS[name]))


def needed_bytes(index: VectorIndex) -> int:
    """Return the bytes of memory for building the index in one go.

    HNSW holds vector and neighbours of every row: two lists of ``m`` on the lowest layer at 16
    bytes each, a little above, and about 170 bytes of its own. Measured: 64 MiB held 29,800 rows of
    384 dimensions at ``m`` 16 (2,252 bytes each). IVFFlat sorts: the lists' centres and a sample of
    fifty rows a list.
    """
    size = 8 + (index.dimensions or 0) * ELEMENT_BYTES.get(index.kind, 4.0)
    if index.method == "ivfflat":
        return int(option(index, "lists") * 51 * size)
    return int(index.rows * (size + 34 * option(index, "m") + 170))


def plan_build(
    index: VectorIndex,
    *,
    available_bytes: int,
    shared_memory_bytes: int,
    cores: int,
    configured_bytes: int = 0,
) -> BuildPlan:
    """Choose memory and workers for a build.

    Parallel workers share the graph in ``/dev/shm``: where that is small (a container), it is the
    limit.
    """
    needed = needed_bytes(index)
    limit, why = int(available_bytes * (1 - LEFT_TO_OTHERS)), "the memory that is free"
    workers = max(0, cores)
    if workers and shared_memory_bytes * 0.9 < min(limit, needed * SPARE):
        if shared_memory_bytes * 0.9 < SMALLEST_MEMORY_BYTES:
            workers = 0
            why = f"no parallel workers, for /dev/shm has {shared_memory_bytes / MIB:.0f} MiB"
        else:
            limit = int(shared_memory_bytes * 0.9)
            why = "shared memory (/dev/shm), which parallel workers share"
    wanted = configured_bytes or max(SMALLEST_MEMORY_BYTES, int(needed * SPARE))
    memory = configured_bytes or min(wanted, max(limit, SMALLEST_MEMORY_BYTES))
    if index.method == "ivfflat" and not configured_bytes:
        memory = min(max(memory, 256 * MIB), max(limit, SMALLEST_MEMORY_BYTES))
    fits = needed <= memory
    shown = f"{needed / MIB:.0f} MiB needed, {memory / MIB:.0f} MiB given"
    return BuildPlan(
        needed, memory, workers, fits, shown if fits else f"{shown}: does not fit; limited by {why}"
    )


def available_bytes() -> int:
    """Return the bytes of memory that this process may still take.

    They are those of the machine, or of its container.
    """
    free = psutil.virtual_memory().available
    try:
        limit, used = (path.read_text().strip() for path in MEMORY_LIMIT)
        return free if limit == "max" else min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        return free


def shared_memory_bytes() -> int:
    """Return the bytes that are free in ``/dev/shm``."""
    shm = Path("/dev/shm")  # noqa: S108 - where PostgreSQL's shared memory is
    return shutil.disk_usage(shm).free if shm.is_dir() else 0


def rows_in(memory_bytes: int, index: VectorIndex) -> int:
    """Return how many rows of such an index fit into the memory."""
    return math.floor(memory_bytes / max(1, needed_bytes(index.model_copy(update={"rows": 1}))))
