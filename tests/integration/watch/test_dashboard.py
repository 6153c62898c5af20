"""The dashboard's queries, asked of a real Prometheus that scrapes the watch of a real cluster."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pgdrill.reports import store
from tests.alarms.live import Live, until, watched
from tests.reports import passed_report

DASHBOARD = Path(__file__).parents[3] / "ops/grafana/dashboard.json"
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not shutil.which("prometheus"), reason="prometheus (Debian's package) is not here"
    ),
]
VARIABLES = {"$cluster": "agents|nobody", "$__rate_interval": "1m"}


def queries() -> list[str]:
    data = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in data["panels"] for target in panel.get("targets", [])]


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with watched() as made:
        yield made


@pytest.fixture(scope="module")
def prometheus(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; it has scraped a watch that looked at a drill's report, too."""
    last = passed_report("20261130T120000Z-aaaaaa")
    last.ended_at = last.started_at
    store.save_report(live.stack.access, last)
    metrics, port = free_port(), free_port()
    text = live.stack.config_file.read_text().replace(
        'listen = ""', f'listen = "127.0.0.1:{metrics}"'
    )
    live.stop()
    live.stack.config_file.write_text(text)
    live.start()
    until(lambda: "pgdrill_rto_promise_seconds" in live.metrics.read_text())
    home = tmp_path_factory.mktemp("prometheus")
    (home / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: pgdrill, static_configs: [{{targets: ["127.0.0.1:{metrics}"]}}]}}]
""")
    words = [
        "prometheus",
        f"--config.file={home}/prometheus.yml",
        f"--storage.tsdb.path={home}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def asked(address: str, query: str) -> list[Any]:
    try:
        answer = httpx.get(f"{address}/api/v1/query", params={"query": query}, timeout=10).json()
    except httpx.TransportError:
        return []
    assert answer["status"] == "success", (query, answer)
    return list(answer["data"]["result"])


def test_every_query_has_an_answer(live: Live, prometheus: str) -> None:
    until(lambda: len(asked(prometheus, "count_over_time(pgdrill_looks_total[5m]) > 15")))
    assert asked(prometheus, 'up{job="pgdrill"}')[0]["value"][1] == "1"
    empty = []
    for query in queries():
        text = query
        for name, value in VARIABLES.items():
            text = text.replace(name, value)
        if not asked(prometheus, text):
            empty.append(text)
    assert empty == []
    assert len(queries()) > 20
    assert time.time() - live.metrics.stat().st_mtime < 120


def test_it_is_a_dashboard_with_panels_that_do_not_overlap_and_a_source_to_choose() -> None:
    data = json.loads(DASHBOARD.read_text())
    assert data["schemaVersion"] >= 39
    assert [one["name"] for one in data["__inputs"]] == ["DS_PROMETHEUS"]
    ids = [one["id"] for one in data["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in data["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
    assert set(re.findall(r"\$\w+", " ".join(queries()))) == VARIABLES.keys()
