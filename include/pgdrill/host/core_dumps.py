"""No core dumps of what works on a database's rows: a core file holds them, and nobody would look
for it.
"""

from __future__ import annotations

import contextlib
import resource


def no_core_files(*, for_good: bool = False) -> None:
    """For this process and all that it starts from now on.

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
