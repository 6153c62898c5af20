"""The low priority of a drill: whatever else its host has to do goes first.

That is production's server above all.
"""

from __future__ import annotations

import functools
import shutil

FIRST_TO_GO = "1000"  # for the kernel, when memory runs out
NICE = "10"
# For ionice: behind everybody, but not waiting for a disk that nobody uses for a while.
BEST_EFFORT, LAST = "2", "7"


@functools.cache
def low_priority_words(priority: str = "low") -> tuple[str, ...]:
    """Return the words before any command that a drill starts; what that starts inherits it.

    With ``normal`` it is just the first to go.
    """
    words: tuple[str, ...] = ()
    if shutil.which("choom"):
        words += ("choom", "-n", FIRST_TO_GO, "--")
    if priority == "low" and shutil.which("nice"):
        words += ("nice", "-n", NICE)
    if priority == "low" and shutil.which("ionice"):
        words += ("ionice", "-t", "-c", BEST_EFFORT, "-n", LAST)
    return words
