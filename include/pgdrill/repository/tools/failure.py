"""A row of what a tool's last words mean."""

from __future__ import annotations

import re
from typing import NamedTuple

from pgdrill.errors import PgdrillError


class Failure(NamedTuple):
    """The words of a failure: their pattern, whose fault it is, its reason, what was expected."""

    pattern: re.Pattern[str]
    fault: type[PgdrillError]
    reason: str
    expected: str
    hint: str
