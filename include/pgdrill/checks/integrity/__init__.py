"""Integrity: are files, pages, indexes and sequences whole, used by the application or not?

What needs an extension (amcheck, pg_prewarm) gets it inside a transaction that is never committed,
so the restored cluster stays as it came. On a cluster that is not ours (``verify``) only extensions
that are installed there are used, and what cannot be asked without them is a skip.

These are not looked at: databases that refuse connections (template0) or that the configuration
leaves out, unlogged relations (empty after any recovery), and free-space and visibility maps beyond
their checksums. A page of nothing but zeros has no checksum. The content of tables, amcheck and
searching through the index find those.
"""

from __future__ import annotations

# In the order in which they are asked: first those that cost least and tell most.
from pgdrill.checks.integrity import (  # isort: skip
    files,
    checksums,
    amcheck,
    invalid,
    access_methods,
    sequences,
)

__all__ = ["access_methods", "amcheck", "checksums", "files", "invalid", "sequences"]
