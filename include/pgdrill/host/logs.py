"""The library's log lines: each stays one line, and rules no terminal.

That holds whatever names, messages or a tool's output are in it.
"""

from __future__ import annotations

import logging
from typing import Any

from pgdrill.text import one_line, visible


class LineFormatter(logging.Formatter):
    """A formatter whose message is one line, and whose traceback holds nothing but text."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the traceback."""
        return visible(super().formatException(ei))


def keep_lines_whole() -> None:
    """Make records of ``pgdrill`` safe as they are made, for where others format them.

    Twice is as good as once.
    """
    before = logging.getLogRecordFactory()
    if not isinstance(before, _Factory):
        logging.setLogRecordFactory(_Factory(before))


class _Factory:
    def __init__(self, before: Any) -> None:
        self.before = before

    def __call__(self, name: str | None, *arguments: Any, **more: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.before(name, *arguments, **more)
        # a record that is copied has no name at first
        if name and f"{name}.".startswith("pgdrill."):
            record.msg, record.args = one_line(record.getMessage()), ()
        return record
