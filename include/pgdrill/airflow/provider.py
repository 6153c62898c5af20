"""What Airflow's provider manager shows of this package (entry point
``apache_airflow_provider``)."""

from __future__ import annotations

from typing import Any

from pgdrill import version

PACKAGE = "pgdrill"
INTEGRATION = "pgdrill"
SCHEME = "x-pgdrill"
OPERATORS = [
    f"pgdrill.airflow.operators.{module}"
    for module in (
        "backup_health",
        "base_backup",
        "begin_drill",
        "check_restore",
        "destroy_restored_cluster",
        "destroy_restored_dump",
        "logical_dump",
        "logical_restore",
        "passed",
        "prune",
        "queue_prune",
        "queue_snapshot",
        "queue_verify",
        "restore_cluster",
        "retention_approval",
        "retention_branch",
        "retention_refused",
    )
]


def get_provider_info() -> dict[str, Any]:
    """Return what there is of operators, hooks and assets.

    No connection types of its own: ``postgres`` and ``aws`` serve. No extra links: a report is an
    object of the store, and no page shows it yet.
    """
    return {
        "package-name": PACKAGE,
        "name": "pgdrill",
        "description": (
            "Backs up PostgreSQL with pgvector and proves, by restoring, that vector search is"
            " right."
        ),
        "versions": [version()],
        "integrations": [{"integration-name": INTEGRATION, "tags": ["software"]}],
        "operators": [{"integration-name": INTEGRATION, "python-modules": OPERATORS}],
        "hooks": [
            {
                "integration-name": INTEGRATION,
                "python-modules": ["pgdrill.airflow.hooks.cluster", "pgdrill.airflow.hooks.queue"],
            }
        ],
        # The scheme of the assets. It has no handler: what stands behind ``x-`` is not looked at.
        "asset-uris": [{"schemes": [SCHEME], "handler": None}],
    }
