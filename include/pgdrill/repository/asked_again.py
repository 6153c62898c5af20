"""A second question for an object that the store lists and does not give.

It is asked again before that is anybody's fault. A replica that lags behind, a proxy or a policy
for single keys answers 404 for an object that is there. Recovery would take that for the end of
WAL, and whoever reads the report for a backup that ends early.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from pgdrill.errors import Unreachable
from pgdrill.repository.object_store import Storage

PAUSES_SECONDS = (0.5, 2.0, 5.0)

Given = TypeVar("Given")


class Absent(Exception):
    """No such object is there, under any of the suffixes that are known."""


def asked_again(
    ask: Callable[[], Given],
    storage: Storage,
    key: str,
    names: re.Pattern[str],
    wait: Callable[[float], object],
) -> Given:
    """Return what ``ask`` gives, and ask again where it raises :class:`Absent`.

    It is asked again as long as the store lists ``key``, by ``names`` as in :meth:`Storage.find`.

    ``wait`` is given the pauses. Raises :class:`Unreachable` where it is listed to the end,
    :class:`Absent` where it is not.
    """
    for pause in (*PAUSES_SECONDS, None):
        try:
            return ask()
        except Absent:
            if storage.find(key, names) is None:
                raise
        if pause is not None:
            wait(pause)
    raise Unreachable(
        "storage-inconsistent",
        f"{storage.url}/{key}",
        found="no such object, and the listing has it",
        expected="the object",
        hint=(
            "see what answers for the store (proxies, replicas, policies for single keys), then try"
            " again"
        ),
    )
