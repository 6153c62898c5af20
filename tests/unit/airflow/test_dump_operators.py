"""The operators of the logical dump with the library's functions replaced: what goes in, what comes
out, what is raised.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from pgdrill.airflow import attempts
from pgdrill.airflow.operators import (
    DestroyRestoredDumpOperator,
    LogicalDumpOperator,
    LogicalRestoreOperator,
)
from pgdrill.errors import Unreachable
from pgdrill.logical import drill as library
from pgdrill.logical import store, take
from pgdrill.logical.drill import Options
from pgdrill.logical.report import DumpReport, IndexBuild
from pgdrill.reports.model import CheckResult, Stage, Trouble

WHEN = datetime(2026, 12, 1, 4, tzinfo=UTC)


class FakeTask:
    """As much of a task instance as the operators use."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


@pytest.fixture
def context(write_config: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name, words in (
        ("POSTGRES", {"conn_type": "postgres", "host": "db"}),
        ("S3", {"conn_type": "aws", "login": "k", "password": "secret"}),
    ):
        monkeypatch.setenv(f"AIRFLOW_CONN_AGENTS_{name}", json.dumps(words))
    monkeypatch.setattr(store, "builds", lambda access: [])
    monkeypatch.setattr(attempts, "_known_of_dumps", lambda access: set())
    return {
        "run_id": "manual__2026-12-01T04:00:00+00:00",
        "ti": FakeTask(),
        "dag_run": SimpleNamespace(run_type="manual"),
    }


def report(**more: Any) -> DumpReport:
    build = IndexBuild(
        database="d",
        index="public.i",
        table="t",
        method="hnsw",
        kind="vector",
        dimensions=3,
        m=16,
        ef_construction=64,
        rows=10,
        seconds=2,
        index_bytes=1,
        needed_bytes=1,
        maintenance_work_mem_bytes=1,
        workers=1,
        fits=True,
    )
    found = [
        CheckResult(
            name="dump-rows",
            family="dump",
            status="fail",
            thing="d.public.t",
            value=3,
            threshold="4 rows",
            hint="look",
        )
    ]
    return DumpReport(
        drill_id="d1",
        dump_id="20261201T040000Z-abcdef",
        cluster="agents",
        started_at=WHEN,
        verdict="passed",
        reason="all checks passed",
        builds=[build],
        results=found,
        kept_at=["/local", "s3://there"],
    ).model_copy(update=more)


def given(monkeypatch: pytest.MonkeyPatch, made: DumpReport) -> list[Options]:
    seen: list[Options] = []

    def drill_dump(access: Any, options: Options, **more: Any) -> DumpReport:
        seen.append(options)
        return made

    monkeypatch.setattr(library, "drill_dump", drill_dump)
    return seen


def test_what_a_person_chose_reaches_the_library_and_the_figures_come_back(
    context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = given(monkeypatch, report())
    task = LogicalRestoreOperator(
        task_id="x",
        cluster="agents",
        dump="20261201T040000Z-abcdef",
        bin_dir="/pg18",
        migrations="/m",
        keep=True,
    )
    result = task.execute(context)
    assert (seen[0].dump, seen[0].bin_dir, seen[0].migrations, seen[0].keep) == (
        "20261201T040000Z-abcdef",
        "/pg18",
        Path("/m"),
        True,
    )
    assert seen[0].trigger == "airflow: manual__2026-12-01T04:00:00+00:00"
    assert result["builds"] == [
        {
            "index": "public.i",
            "rows": 10,
            "seconds": 2.0,
            "rows_per_second": 5.0,
            "fits_in_memory": True,
        }
    ]
    json.dumps(result)


def test_a_dump_that_did_not_pass_fails_the_task_with_its_cause_and_leaves_its_figures(
    context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, report(verdict="failed", reason="1 of 1 checks failed"))
    with pytest.raises(
        AirflowFailException,
        match=r"(?s)dump-rows d\.public\.t: found 3; expected 4 rows\.\nHint: look.*s3://there",
    ):
        LogicalRestoreOperator(task_id="x", cluster="agents").execute(context)
    assert context["ti"].pushed["return_value"]["verdict"] == "failed"


def test_a_store_that_did_not_answer_is_tried_again(
    context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble = Trouble(
        reason="storage-unreachable",
        thing="s3",
        found="nothing",
        expected="an answer",
        hint="wait",
        retryable=True,
    )
    given(
        monkeypatch,
        report(
            verdict="could not verify", restore=Stage(status="could not verify", trouble=trouble)
        ),
    )
    with pytest.raises(AirflowException) as error:
        LogicalRestoreOperator(task_id="x", cluster="agents").execute(context)
    assert not isinstance(error.value, AirflowFailException)


def test_a_dump_that_cannot_be_taken_raises_its_own_words(
    context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []

    def take_dump(access: Any, *, databases: tuple[str, ...], **more: Any) -> None:
        seen.append(databases)
        raise Unreachable("locked", "t", found="a lock", expected="none", hint="wait")

    monkeypatch.setattr(take, "take_dump", take_dump)
    with pytest.raises(AirflowException, match=r"(?s)found a lock.*Hint: wait"):
        LogicalDumpOperator(task_id="x", cluster="agents", databases=[" one", "two", ""]).execute(
            context
        )
    assert seen == [("one", "two")]


def test_a_kept_cluster_that_does_not_run_is_destroyed_all_the_same(
    context: dict[str, Any], write_config: Any
) -> None:
    from pgdrill.airflow.hooks import ClusterHook
    from pgdrill.logical.report import DumpServer

    access = ClusterHook("agents").get_conn()
    server = DumpServer(
        directory="/d",
        socket_directory="/s",
        port=1,
        server_version="18",
        expires_at=WHEN + timedelta(hours=1),
    )
    folder = access.cluster.state_directory / "dump-reports"
    folder.mkdir(parents=True)
    (folder / "d1.json").write_text(report(restored=server).model_dump_json())
    assert store.local_report(access, "d1")
    result = DestroyRestoredDumpOperator(
        task_id="x", cluster="agents", drill_id="d1", keep=True
    ).execute(context)
    assert result["destroyed"] is True
