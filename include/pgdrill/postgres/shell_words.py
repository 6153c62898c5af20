"""Words of a command that stands in PostgreSQL's settings, such as ``restore_command``."""

from __future__ import annotations

import shlex


def shell_word(word: str) -> str:
    """Return a word so that the shell gets it as it is.

    PostgreSQL reads ``%`` before the shell does: it takes ``%p`` for a path of its own, and an
    unknown one for an error.
    """
    return shlex.quote(word).replace("%", "%%")
