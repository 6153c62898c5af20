"""The command as ``python -m pgdrill``, where its script is not on PATH."""

from __future__ import annotations

from pgdrill.cli import main

if __name__ == "__main__":
    main()
