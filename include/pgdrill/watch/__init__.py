"""The watch: looks at clusters again and again, and what is found becomes alerts.

:func:`once` looks once, for whoever has a rhythm of his own (a DAG); ``pgdrill watch`` is a service
that looks all the time.
"""

from __future__ import annotations

from pgdrill.watch.cluster import ClusterWatch, Looked, once

__all__ = ["ClusterWatch", "Looked", "once"]
