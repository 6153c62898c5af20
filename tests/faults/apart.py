"""Jobs in processes of their own, forked from one that has imported what they need: thousands of
cases import it once.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from tests.faults.jobs import Work, impatient, run
from tests.kills.points import run_until

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(
    [
        "__main__",
        "tests.faults.apart",
        "obstore",
        "pgdrill.backup",
        "pgdrill.baseline",
        "pgdrill.drill",
        "pgdrill.logical.drill",
        "pgdrill.logical.take",
        "pgdrill.retention.prune",
        "pgdrill.retention.holds",
        "pgdrill.retention.window",
    ]
)


def run_apart(job: str, work: Work, limit_seconds: float, point: int | None) -> dict[str, Any]:
    """How the job ended: what ``jobs.run`` gives, or ``hang``, ``killed``, ``crash``; with its
    points unless ``point`` is None.
    """
    started = time.monotonic()
    receiving, sending = FORKING.Pipe(duplex=False)
    process = FORKING.Process(target=_child, args=(sending, job, work, point))
    process.start()
    sending.close()
    try:
        ended: dict[str, Any] = (
            json.loads(receiving.recv_bytes())
            if receiving.poll(limit_seconds)
            else {"end": "hang", "said": ""}
        )
    except EOFError:  # it ended without a word
        process.join()
        killed = process.exitcode == -signal.SIGKILL
        ended = {
            "end": "killed" if killed else "crash",
            "said": "" if killed else f"exit code {process.exitcode}",
        }
    finally:
        receiving.close()
        process.kill()
        process.join()
    return {"seconds": round(time.monotonic() - started, 1), **ended}


def _child(sending: Connection, job: str, work: Work, point: int | None) -> None:
    impatient()
    try:
        ended = run(job, work) if point is None else run_until(point, job, work)
    except BaseException:
        ended = {"end": "crash", "said": traceback.format_exc()[-600:]}
    sending.send_bytes(json.dumps(ended, default=str).encode())
    os._exit(0)  # a thread that waits for a store holds nobody up
