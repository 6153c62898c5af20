"""A watch over the free space on the drill's file system.

Production, or whoever else is on it, never finds it full.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pgdrill.access import Access
from pgdrill.errors import CouldNotVerify
from pgdrill.host.process import Runner
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import CheckResult

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
SHARE, LEAST_BYTES, MOST_BYTES = 0.05, 2**30, 20 * 2**30


def keep_free(configured: int, total_bytes: int) -> int:
    """Return the bytes that a drill leaves free for others.

    As configured, else a twentieth of the file system within 1 and 20 GiB.
    """
    return configured or min(MOST_BYTES, max(LEAST_BYTES, int(total_bytes * SHARE)))


def check_room(directory: Path, needed: int, configured: int) -> None:
    """Raise ``no-space`` unless ``needed`` bytes fit beside what has to stay free.

    The error says how much there is.
    """
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    usage = shutil.disk_usage(existing)
    kept = keep_free(configured, usage.total)
    if usage.free < needed + kept:
        raise CouldNotVerify(
            "no-space",
            f"{existing}",
            found=f"{_exact(usage.free)} free",
            expected=f"{_exact(needed)}, and {_exact(kept)} that stay free for others",
            hint=(
                "make room, or set drill.work_directory to a larger disk (drill.keep_free_bytes"
                " says how much has to stay free)"
            ),
        )


def _exact(size_bytes: int) -> str:
    """Return a size in words, to the tenth of a megabyte: what is lacking may be little."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e11 else f"{size_bytes / 1e6:.1f} MB"


@contextlib.contextmanager
def keeping_free(
    access: Access, workspace: Workspace, runner: Runner, results: list[CheckResult] | None = None
) -> Iterator[None]:
    """End the drill by itself before it fills the disk, while inside.

    The tool, the prefetcher and the server end, and then the folder is removed. ``results`` that
    come after that are of a cluster that is no more, and are taken away again.
    """
    watch = _Watch(access, workspace, runner, results)
    thread = threading.Thread(target=watch.run, name="pgdrill-room", daemon=True)
    thread.start()
    try:
        yield
    except Exception:
        if not watch.fault:
            raise
    finally:
        watch.over.set()
        thread.join()
    if watch.fault:
        runner.stopped = False  # nobody wanted the job stopped
        if results is not None:
            del results[watch.answers :]
        raise watch.fault


class _Watch:
    def __init__(
        self,
        access: Access,
        workspace: Workspace,
        runner: Runner,
        results: list[CheckResult] | None,
    ) -> None:
        self.over = threading.Event()
        self.fault: CouldNotVerify | None = None
        self.answers = 0
        self._results = [] if results is None else results
        self._runner, self._folder = runner, access.cluster.drill.work_directory
        self._destroy: Callable[[], None] = workspace.destroy
        self._kept = keep_free(
            access.cluster.drill.keep_free_bytes, shutil.disk_usage(self._folder).total
        )

    def run(self) -> None:
        """Look at the free space until the drill is over, or too little is left."""
        while not self.over.wait(LOOK_SECONDS):
            free = shutil.disk_usage(self._folder).free
            if free < self._kept:
                return self._end(free)

    def _end(self, free: int) -> None:
        self.answers = len(self._results)
        self.fault = CouldNotVerify(
            "no-space",
            f"{self._folder}",
            found=f"{_exact(free)} free during the drill, which ended itself",
            expected=f"at least {_exact(self._kept)} that stay free for others",
            hint=(
                "make room, or set drill.work_directory to a larger disk (drill.keep_free_bytes"
                " says how much has to stay free)"
            ),
        )
        logger.error("%s", self.fault)
        self._runner.stop()
        self._destroy()
