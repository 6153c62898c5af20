"""The command ``python -m pgdrill.recovery.wal_prefetch ASKED ANSWERS SPOOL``.

The words are three inherited descriptors; the order is the first line of stdin.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

from pgdrill.recovery.wal_prefetch.order import Order
from pgdrill.recovery.wal_prefetch.server import STDIN, Prefetcher

SWITCH_SECONDS = 0.0005  # the thread that answers recovery must not wait for those that fetch


def main() -> None:
    """Fetch ahead until the drill says that it is enough, or is gone."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_SECONDS)
    # unbuffered, for select waits for what comes after this line
    with os.fdopen(os.dup(STDIN), "rb", buffering=0) as line:
        order = Order.from_json(line.readline().decode())
    asked, answers, spool = (int(word) for word in sys.argv[1:4])
    prefetcher = Prefetcher(order, asked, answers, spool, dict(os.environ))
    # an orderly end: a tool that is just being started ends, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    code = 1
    try:
        prefetcher.run()
        code = 0
    except Exception:
        logging.getLogger(__name__).exception("fetching WAL ahead")
    finally:
        prefetcher.tool.stop()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what threads still fetch is of no use to anybody


if __name__ == "__main__":
    main()
