"""The ground that doctor and health stand on: questions about a cluster, asked in a hurry.

How a question is registered, and what its answers look like, is each one's own.
"""

from __future__ import annotations

from pgdrill.examination.asking import Asked, ask_all, guarded
from pgdrill.examination.subject import Hurried, HurriedSubject, hurry

__all__ = ["Asked", "Hurried", "HurriedSubject", "ask_all", "guarded", "hurry"]
