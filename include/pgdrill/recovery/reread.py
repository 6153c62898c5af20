"""A second look at a part of a backup that broke off while the tool fetched it.

The part is read by itself before the backup is blamed. A proxy that ends long connections, or a
store that closes one, looks to the tool like an object that ends too early.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from pgdrill.access import Access
from pgdrill.errors import BackupFault, PgdrillError, Unreachable
from pgdrill.repository.decoders import DECODERS, Undecodable, decoded

logger = logging.getLogger(__name__)

BROKEN_OFF = re.compile(
    r"unexpected EOF|closed pipe|unexpected end of|truncated|IncompleteRead|incomplete",
    re.IGNORECASE,
)


def blame(
    access: Access, backup: str, parts: Mapping[str, int], error: BackupFault
) -> PgdrillError:
    """Return the error to raise for a fetch that broke off.

    It is the same error, or one that names the damaged part, or, where every part is whole, one
    that blames the way to the store.
    """
    told = error.problem.found
    if not BROKEN_OFF.search(told) or access.tool.encrypts(
        {**os.environ, **access.tool.environment()}
    ):
        return error
    archives = [key for key in parts if ".tar" in key]
    named = [key for key in archives if PurePosixPath(key).name in told] or archives
    logger.warning("reading %d parts by themselves, for one broke off: %s", len(named), told)
    for key in named:
        try:
            if why := _broken(access, key, parts[key]):
                return BackupFault(
                    "corrupt-part",
                    f"{access.repository.url}/{key}",
                    found=why,
                    expected="a part that unpacks",
                    hint=error.problem.hint,
                )
        except Unreachable as unreachable:
            return unreachable
    return Unreachable(
        "connection-cut",
        f"fetching backup {backup}",
        found=f"{told}; read by itself, each of {len(named)} parts is whole",
        expected="connections to the store that last until a part has come",
        hint=(
            "see what ends them on the way: a proxy's or balancer's time limit, or its limit of"
            " bytes; then try again"
        ),
    )


def _broken(access: Access, key: str, size: int) -> str:
    """Return what is wrong with an object, or an empty string."""
    suffix = PurePosixPath(key).suffix.removesuffix(".tar")
    chunks = access.objects.chunks(key)
    if chunks is None:
        return "no such object"
    try:
        if DECODERS.get(suffix) is None:
            arrived = sum(map(len, chunks))
            return "" if arrived == size else f"{arrived} bytes of {size}"
        for _ in decoded(chunks, suffix):
            pass
    except Undecodable as damage:
        return str(damage)
    return ""
