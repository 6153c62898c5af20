"""The command ``python -m pgdrill.doctor.airflow_site CONN_ID…``.

It prints what Airflow says of itself on this host, as JSON on the last line of stdout. It is a
process of its own: importing Airflow takes seconds, and may hang on its database.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LOCAL, METASTORE = "LocalDagBundle", "MetastoreBackend"


def main() -> None:
    """Ask for folders, executor and Connections, and of those for the type alone."""
    from airflow.configuration import conf

    said = {
        "folders": _folders(conf),
        "executor": conf.get("core", "executor"),
        "default_queue": conf.get("operators", "default_queue"),
        "connections": {conn_id: _connection(conn_id) for conn_id in sys.argv[1:]},
    }
    sys.stdout.write(f"\n{json.dumps(said)}\n")


def _folders(conf: Any) -> list[str]:
    """Return where DAG files lie on this host.

    Those of bundles that are fetched from elsewhere are not known here.
    """
    bundles = json.loads(conf.get("dag_processor", "dag_bundle_config_list") or "[]")
    local = [one for one in bundles if str(one.get("classpath", "")).endswith(LOCAL)]
    places = [
        (one.get("kwargs") or {}).get("path") or conf.get("core", "dags_folder") for one in local
    ]
    return [str(Path(place).expanduser()) for place in places]


def _connection(conn_id: str) -> dict[str, str]:
    """Return a Connection's ``{"type": …}``, or ``{"trouble": …}`` where it was not found.

    The trouble is empty where every place was asked and none has it.
    """
    from airflow.configuration import ensure_secrets_loaded

    troubles = []
    for backend in ensure_secrets_loaded():
        if type(backend).__name__ == METASTORE and (missing := _no_database()):
            troubles.append(missing)
            continue
        try:
            found = backend.get_connection(conn_id=conn_id)
        except Exception as error:  # whatever a backend of somebody's raises
            troubles.append(f"{type(backend).__name__}: {type(error).__name__}")
            continue
        if found:
            return {"type": str(found.conn_type)}
    return {"trouble": ", ".join(troubles)}


def _no_database() -> str:
    """Return the trouble of a SQLite file that is not there, or an empty string.

    Asking SQLite for such a file would make one.
    """
    from airflow.configuration import conf

    scheme, _, path = conf.get("database", "sql_alchemy_conn").partition(":///")
    return f"no database {path}" if scheme == "sqlite" and not Path(path).is_file() else ""


if __name__ == "__main__":
    main()
