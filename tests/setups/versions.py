"""Versions of pgvector and of programs."""

from __future__ import annotations

from tests.setups.setup import Answer, Setup

FAMILY = "versions"
CONTRIB = Answer("drill", "amcheck", "amcheck", "contrib")
SETUPS = (
    *(
        Setup(
            FAMILY,
            "a PostgreSQL without its contrib package",
            tool,
            version,
            red=("contrib",),
            answer=CONTRIB,
        )
        for tool, version in (
            ("wal-g", "16"),
            ("barman-cloud", "16"),
            ("wal-g", "16, pgvector 0.6"),
            ("wal-g", "16, pgvector 0.7"),
            ("wal-g", "16, pgvector 0.8.0"),
        )
    ),
    Setup(
        FAMILY,
        "programs of another major version",
        config={"server": {"bin_dir": "/usr/lib/postgresql/15/bin"}},
        red=("major-version", "libraries"),
        answer=Answer("drill", "wrong-major-version", "15", "server.bin_dir"),
    ),
    Setup(
        FAMILY,
        "a bin_dir without programs",
        config={"server": {"bin_dir": "{home}"}},
        red=("programs",),
        answer=Answer("backup", "binaries", "pg_controldata", "server.bin_dir"),
    ),
)
