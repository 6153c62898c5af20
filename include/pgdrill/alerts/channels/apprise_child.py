"""Sends one notification by Apprise, as a process that ends: its input is JSON, its answer a code.

0 sent, 3 not sent, 4 no URL that Apprise knows, 5 no answer in time. The URL, a secret, comes by
the standard input and goes nowhere else.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any

MEMORY_BYTES = 2**30
# a newer Apprise can be told not to go where a server sends it
NO_REDIRECTS: dict[str, Any] = {"http_redirects": False}
SENT, NOT_SENT, NO_URL, TOO_LATE = 0, 3, 4, 5


def main() -> int:
    """Send what stands on the standard input, and return the code."""
    asked = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    from apprise import Apprise, AppriseAsset

    known = NO_REDIRECTS if hasattr(AppriseAsset, "http_redirects") else {}
    notifier = Apprise(asset=AppriseAsset(secure_logging=True, **known))
    if not notifier.add(asked["url"]):
        return NO_URL
    signal.signal(signal.SIGALRM, lambda *_: os._exit(TOO_LATE))
    signal.setitimer(signal.ITIMER_REAL, float(asked["seconds"]))
    try:
        taken = notifier.notify(
            title=asked["title"], body=asked["body"], notify_type=asked["kind"], body_format="text"
        )
    except MemoryError:
        return NOT_SENT
    return SENT if taken else NOT_SENT


if __name__ == "__main__":
    sys.exit(main())
