"""Integrity: are files, pages, indexes and sequences whole, down to those that no query of the
application touches?

What needs an extension (amcheck, pg_prewarm) gets it inside a transaction that is never committed,
so the restored cluster stays as it came. On a cluster that is not ours (``verify``) only extensions
that are installed there are used, and what cannot be asked without them is a skip.

Not looked at: databases that refuse connections (template0) or that the config leaves out, unlogged
relations (empty after any recovery), free-space and visibility maps beyond their checksums. A page
of nothing but zeros has no checksum: the content of tables, amcheck and searching through the index
find those.
"""

from __future__ import annotations

# In the order in which they are asked: what costs least and tells most first.
from pgdrill.checks.integrity import (  # isort: skip
    files,
    checksums,
    amcheck,
    invalid,
    access_methods,
    sequences,
)

__all__ = ["access_methods", "amcheck", "checksums", "files", "invalid", "sequences"]
