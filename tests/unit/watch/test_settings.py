"""The table [watch] of dr.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgdrill.config import parse

RIGHT = {
    "clusters": {
        "agents": {
            "server": {"data_directory": "/pgdata"},
            "repository": {"url": "file:///backups"},
        }
    }
}


@pytest.mark.parametrize(
    ("table", "address"),
    [
        ({}, ("127.0.0.1", 9842)),
        ({"listen": ""}, None),
        ({"listen": "[::1]:80"}, ("::1", 80)),
        ({"listen": "db1.example.org:9842"}, ("db1.example.org", 9842)),
    ],
)
def test_it_listens_where_it_is_told(table: dict[str, Any], address: Any) -> None:
    settings = parse({**RIGHT, "watch": table}, Path("dr.toml"))
    assert (settings.wrong, settings.watch.address) == ({}, address)


@pytest.mark.parametrize(
    "table",
    [
        {"listen": "9842"},
        {"listen": "host:0"},
        {"listen": "host:70000"},
        {"textfile": "pgdrill.prom"},
        {"textfile": "/var/lib/node_exporter/pgdrill.txt"},
        {"look_seconds": 1},
        {"heartbeat_seconds": 6},
        {"nothing": 1},
        "always",
    ],
)
def test_a_table_that_is_wrong_is_named_and_costs_no_cluster_its_watch(table: Any) -> None:
    settings = parse({**RIGHT, "watch": table}, Path("dr.toml"))
    assert settings.cluster("agents").name == "agents"
    assert "[watch" in settings.wrong[""].problem.found
    assert settings.watch.look_seconds == 10
