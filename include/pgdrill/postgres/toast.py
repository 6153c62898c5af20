"""TOAST tables in a comparison of catalogs.

They have no name that a person gave, and belong to one table each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from pgdrill.postgres.catalog_fingerprint import Difference, Fingerprint

# A TOAST table is named by the number of its table, even if a rewrite made it.
TOAST = re.compile(r"\bpg_toast\.pg_toast_(\d+)(?:_index)?\b")


def told_once(
    found: Sequence[Difference], before: Fingerprint, now: Fingerprint
) -> list[Difference]:
    """Return the differences without those of a TOAST table whose own table differs, too.

    Other TOAST tables give one difference each, with the table's name.
    """
    differing = {difference.key for difference in found}
    told: dict[str, Difference] = {}
    for difference in found:
        owner = TOAST.search(difference.name)
        key = f"pg_class:{owner[1]}" if owner else ""
        table = before.objects.get(key) or now.objects.get(key)
        if table is None:
            told[difference.key] = difference
        elif key not in differing:
            told.setdefault(
                f"TOAST of {key}", replace(difference, name=f"TOAST table of {table[1]}")
            )
    return list(told.values())
