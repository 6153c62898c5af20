"""No core dumps of programs that work on a database's rows.

A core file holds the rows, and nobody would look for it.
"""

from __future__ import annotations

import contextlib
import resource


def no_core_files(*, for_good: bool = False) -> None:
    """Forbid core files of this process and of all that it starts from now on.

    A kernel that hands dumps to a program heeds no limit: it gets one without memory.
    """
    resource.setrlimit(
        resource.RLIMIT_CORE, (0, 0 if for_good else resource.getrlimit(resource.RLIMIT_CORE)[1])
    )
    with (
        contextlib.suppress(OSError),
        open("/proc/self/coredump_filter", "w", encoding="ascii") as file,  # noqa: PTH123
    ):
        file.write("0")
