"""Proof of an instant from WAL: the transactions that ended just before and after it.

They are those around the LSN where replay stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from pgdrill.errors import CouldNotVerify
from pgdrill.postgres.wal import Segment
from pgdrill.postgres.waldump import EndedTransaction, ended_transactions
from pgdrill.reports.model import InstantProof
from pgdrill.repository.restorable_window import Line
from pgdrill.repository.wal_files import WalReader

LOOK_BACK = 4  # segments before the stop, if it has no transaction of its own before that
# recovery to a time stops at the next transaction itself, at most a record's header away
LOOK_AHEAD = 2


def prove(wal: WalReader, line: Line, reached_lsn: int) -> InstantProof:
    """Read the archived segments around the LSN that replay reached."""
    size = line.segment_bytes
    first = max(1, reached_lsn // size - LOOK_BACK) * size
    files = list(line.files(first, reached_lsn + (LOOK_AHEAD - 1) * size))
    here = len(files) - LOOK_AHEAD
    proof = InstantProof()
    for choices in reversed(files[: here + 1]):
        if past := [it for it in _read(wal, choices) if it.lsn < reached_lsn]:
            proof.last_at, proof.last_lsn = past[-1].at, past[-1].lsn
            break
    for choices in files[here:]:
        if coming := [it for it in _read(wal, choices) if it.lsn >= reached_lsn]:
            proof.next_at, proof.next_lsn = coming[0].at, coming[0].lsn
            break
    return proof


def _read(wal: WalReader, choices: Iterable[Segment]) -> list[EndedTransaction]:
    # a store that fails now leaves the instant unproved, and what was restored restored
    with contextlib.suppress(CouldNotVerify):
        for segment in choices:
            if file := wal.fetch(segment.name):
                ended = ended_transactions(wal.binaries, file)
                file.unlink()
                return ended
    return []
