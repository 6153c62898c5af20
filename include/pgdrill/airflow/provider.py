"""What Airflow's provider manager shows of this package (entry point
``apache_airflow_provider``)."""

from __future__ import annotations

from typing import Any

from pgdrill import version

PACKAGE = "pgdrill"


def get_provider_info() -> dict[str, Any]:
    """Name, description and version.

    No connection types of its own: ``postgres`` and ``aws`` serve.
    """
    return {
        "package-name": PACKAGE,
        "name": "pgdrill",
        "description": (
            "Backs up PostgreSQL with pgvector and proves, by restoring, that vector search is"
            " right."
        ),
        "versions": [version()],
    }
