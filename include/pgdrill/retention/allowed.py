"""The names of the refusals that a person may let pass. The others are never let pass.

Reading a DAG file imports no more than this.
"""

from __future__ import annotations

MAY_BE_ALLOWED = ("too-much", "wal-gap", "nothing-proved", "missing", "first-run")
