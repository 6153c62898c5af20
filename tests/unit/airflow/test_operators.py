"""The operators with the library's functions replaced: what goes in, what comes out, what is
raised.
"""

from __future__ import annotations

import copy
import importlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk import DAG, Asset, BaseOperator, task
from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
)

import pgdrill
from pgdrill import backup, drill
from pgdrill.airflow import hooks, operators
from pgdrill.airflow.hooks import ClusterHook
from pgdrill.airflow.operators import (
    BaseBackupOperator,
    BeginDrillOperator,
    CheckRestoreOperator,
    DestroyRestoredClusterOperator,
    RestoreClusterOperator,
)
from pgdrill.airflow.operators.base import ClusterOperator
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.provider import get_provider_info
from pgdrill.errors import (
    BackupFault,
    Busy,
    ConfigError,
    CouldNotVerify,
    Momentary,
    PgdrillError,
    StandbyConflict,
    StandbyUnreachable,
    TimedOut,
    Unreachable,
)
from pgdrill.host.process import Runner, Stopped
from pgdrill.reports import store
from pgdrill.reports.model import CheckResult, Report, RestoredCluster, Stage, Target, Trouble

RUN_ID = "scheduled__2026-11-27T11:00:00+00:00"
WHEN = datetime(2026, 11, 27, 11, tzinfo=UTC)
PASSWORD, SECRET = "canary-of-postgres", "canary-of-the-store"
ON_A_CLUSTER = [
    name for name in operators.__all__ if issubclass(getattr(operators, name), ClusterOperator)
]
WORDS = {"found": "a hole", "expected": "none", "hint": "fill it"}


class FakeTask:
    """As much of a task instance as the operators use."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}
        self.waiting_since: datetime | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return "d1" if key == "drill_id" else {"dump_id": "20261201T040000Z-abcdef"}

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.waiting_since


@pytest.fixture
def context() -> dict[str, Any]:
    """A task's context."""
    return {
        "run_id": RUN_ID,
        "ti": FakeTask(),
        "params": {},
        "dag_run": SimpleNamespace(run_type="scheduled"),
    }


@pytest.fixture(autouse=True)
def _connections(write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(store, "list_reports", lambda access: [])
    connect(
        monkeypatch,
        "agents_postgres",
        conn_type="postgres",
        host="db.example.org",
        login="drill",
        password=PASSWORD,
    )
    connect(monkeypatch, "agents_s3", conn_type="aws", login="the-key", password=SECRET)


def connect(patch: pytest.MonkeyPatch, conn_id: str, **words: Any) -> None:
    """Define a Connection."""
    patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(words))


def report(**more: Any) -> Report:
    """A drill that passed."""
    made = Report(
        drill_id="d1",
        cluster="agents",
        started_at=WHEN,
        rpo_seconds=60,
        rto_seconds=3600,
        tool="wal-g",
        backup="base_1",
        target=Target(kind="name", value="pgdrill-d1"),
        restore=Stage(status="ok"),
        checks=Stage(status="ok"),
        restored=RestoredCluster(
            directory="/w/d1",
            data_directory="/w/d1/data",
            socket_directory="/tmp/pgdrill-1",
            port=5432,
            system_identifier=1,
            timeline=1,
            reached_lsn="0/3000028",
            expires_at=WHEN + timedelta(hours=4),
        ),
        results=[
            CheckResult(
                name="index-recall",
                family="vectors",
                status="pass",
                thing="docs.embedding",
                value=0.97,
            )
        ],
        kept_at=["/w/reports/d1.json", "s3://bucket/pgdrill/reports/d1.json"],
    ).model_copy(update=more)
    made.judge()
    return made


def trouble(error: type[PgdrillError] = BackupFault) -> Trouble:
    return Trouble.of(error("wal-gap", "segment 12", **WORDS))


def stage(
    monkeypatch: pytest.MonkeyPatch, name: str, result: Report | PgdrillError
) -> list[dict[str, Any]]:
    """Replace a stage of the drill; gives what it was called with."""
    calls: list[dict[str, Any]] = []

    def replaced(access: Any, drill_id: str, **more: Any) -> Report:
        calls.append({"access": access, "drill_id": drill_id, **more})
        if isinstance(result, PgdrillError):
            raise result
        return result

    monkeypatch.setattr(drill, name, replaced)
    return calls


def backup_result() -> backup.BackupResult:
    return backup.BackupResult(
        cluster="agents",
        tool="wal-g",
        name="base_1",
        started_at=WHEN,
        finished_at=WHEN,
        start_lsn="0/2",
        finish_lsn="0/3",
        timeline=1,
        system_identifier="1",
        uncompressed_bytes=10,
        stored_bytes=5,
        parts=2,
        tool_seconds=1.0,
        seconds=2.0,
        mb_per_second=3.0,
        record="s3://bucket/record",
    )


def is_plain(value: Any) -> bool:
    """JSON's own types all the way down."""
    if isinstance(value, dict):
        return all(type(key) is str and is_plain(it) for key, it in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


# What the tasks hand on


def test_a_backup_hands_on_plain_figures_and_tells_its_assets(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    monkeypatch.setattr(backup, "take_backup", lambda *_, **__: backup_result())
    asset = Asset("agents.base_backups")
    event = type("Event", (), {"extra": {}})()
    context["outlet_events"] = {asset: event}
    told = BaseBackupOperator(task_id="backup", cluster="agents", outlets=[asset]).execute(context)
    assert is_plain(told)
    assert told["finished_at"] == "2026-11-27T11:00:00Z"
    assert event.extra["backup"] == "base_1"


def test_a_restore_hands_on_where_the_cluster_is_and_what_it_took(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    calls = stage(monkeypatch, "restore_stage", report())
    told = RestoreClusterOperator(
        task_id="restore", cluster="agents", drill_id=RUN_ID, backup="base_1"
    ).execute(context)
    assert is_plain(told)
    assert told["directory"] == "/w/d1"
    assert told["ends_by_itself_at"] == "2026-11-27T15:00:00Z"
    assert calls[0]["drill_id"].startswith("20261127T110000Z-scheduled-")
    assert calls[0]["backup"] == "base_1"
    assert calls[0]["trigger"] == f"airflow: {RUN_ID}"


def test_a_green_check_hands_on_its_figures(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    calls = stage(monkeypatch, "check_stage", report(summary="On 27 November all was well."))
    told = CheckRestoreOperator(
        task_id="check", cluster="agents", families=["vectors", "rows"]
    ).execute(context)
    assert is_plain(told)
    assert told["summary"] == "On 27 November all was well."
    assert isinstance(calls[0]["runner"], Runner)  # a kill ends the application's test
    assert told["verdict"] == "passed"
    assert told["recall_at_10"] == {"docs.embedding": 0.97}
    assert calls[0]["families"] == ("vectors", "rows")


def test_a_red_check_hands_on_its_figures_before_it_raises(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    bad = CheckResult(
        name="index-recall",
        family="vectors",
        status="fail",
        thing="docs.embedding",
        value=0.4,
        threshold=">= 0.9",
        hint="REINDEX",
    )
    stage(monkeypatch, "check_stage", report(results=[bad]))
    with pytest.raises(AirflowFailException) as raised:
        CheckRestoreOperator(task_id="check", cluster="agents").execute(context)
    for word in (
        "failed",
        "docs.embedding",
        "0.4",
        ">= 0.9",
        "REINDEX",
        "s3://bucket/pgdrill/reports/d1.json",
    ):
        assert word in str(raised.value)
    told = context["ti"].pushed["return_value"]
    assert is_plain(told)
    assert told["checks_failed"] == 1
    assert told["findings"][0]["hint"] == "REINDEX"


def test_what_was_not_answered_is_red_too(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    unanswered = CheckResult(name="rows", family="rows", status="skip", message="no baseline")
    stage(monkeypatch, "check_stage", report(results=[*report().results, unanswered]))
    with pytest.raises(AirflowFailException, match=r"(?s)could not verify.*rows.*no baseline"):
        CheckRestoreOperator(task_id="check", cluster="agents").execute(context)


def test_a_destroyed_cluster_is_said_to_be_gone(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    stage(monkeypatch, "destroy_stage", report(cleanup=Stage(status="ok", seconds=1.5)))
    told = DestroyRestoredClusterOperator(
        task_id="destroy", cluster="agents", drill_id="d1", keep=False
    ).execute(context)
    assert is_plain(told)
    assert (told["destroyed"], told["seconds"]) == (True, 1.5)


def test_destroying_twice_and_without_a_report_is_fine(
    context: dict[str, Any], write_config: Callable[..., Path]
) -> None:
    file = write_config("agents")
    file.write_text(
        re.sub(r's3://bucket/agents"', f'file://{file.parent}/repository"', file.read_text())
    )
    folder = file.parent / "work" / "agents" / "drills" / "d1"
    folder.mkdir(parents=True)
    for _ in range(2):
        told = DestroyRestoredClusterOperator(
            task_id="destroy", cluster="agents", drill_id="d1"
        ).execute(context)
        assert told["destroyed"] is True
        assert not folder.exists()


def test_there_is_nothing_to_keep_of_a_restore_that_failed(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    calls = stage(monkeypatch, "destroy_stage", report())
    told = DestroyRestoredClusterOperator(
        task_id="destroy", cluster="agents", drill_id="d1", keep=True
    ).execute(context)
    assert told["destroyed"] is True
    assert len(calls) == 1


# What is raised


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (BackupFault("wal-gap", "segment 12", **WORDS), AirflowFailException),
        (CouldNotVerify("no-space", "disk", **WORDS), AirflowFailException),
        (ConfigError("bad-target", "target", **WORDS), AirflowFailException),
        (Unreachable("storage-unreachable", "store", **WORDS), AirflowException),
    ],
)
def test_only_what_did_not_answer_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
    context: dict[str, Any],
    error: PgdrillError,
    raised: type[Exception],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(backup, "take_backup", fail)
    with pytest.raises(AirflowException) as caught:
        BaseBackupOperator(task_id="backup", cluster="agents").execute(context)
    assert type(caught.value) is raised
    for word in (error.problem.thing, *WORDS.values()):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error", "raised"),
    [
        ("failed", BackupFault, AirflowFailException),
        ("could not verify", CouldNotVerify, AirflowFailException),
        ("could not verify", TimedOut, AirflowFailException),
        *[
            ("could not verify", passing, AirflowException)
            for passing in (Unreachable, StandbyUnreachable, StandbyConflict, Momentary)
        ],
    ],
)
def test_a_restore_that_the_report_calls_failed_is_raised_with_its_cause_and_tried_again_if_the_error_says_so(  # noqa: E501
    monkeypatch: pytest.MonkeyPatch,
    context: dict[str, Any],
    status: Any,
    error: type[PgdrillError],
    raised: type[Exception],
) -> None:
    broken = report(
        restore=Stage(status=status, trouble=trouble(error)),
        checks=Stage(),
        results=[],
        restored=None,
    )
    stage(monkeypatch, "restore_stage", broken)
    with pytest.raises(AirflowException) as caught:
        RestoreClusterOperator(task_id="restore", cluster="agents", drill_id="d1").execute(context)
    assert type(caught.value) is raised
    for word in (status, "segment 12", *WORDS.values(), "reports/d1.json"):
        assert word in str(caught.value)


def test_a_task_that_was_ended_from_outside_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise Stopped("wal-g was ended because the job was stopped")

    monkeypatch.setattr(backup, "take_backup", stop)
    with pytest.raises(AirflowException) as caught:
        BaseBackupOperator(task_id="backup", cluster="agents").execute(context)
    assert type(caught.value) is AirflowException


@pytest.mark.parametrize(
    ("skipped", "raised"),
    [
        ([(True, True)], AirflowException),
        ([(True, True), (True, False)], AirflowFailException),
        # what is not required keeps nothing from green
        ([(True, True), (False, False)], AirflowException),
        ([(False, True)], AirflowFailException),
    ],
)
def test_checks_without_an_answer_are_asked_again_if_all_that_was_in_the_way_may_pass(
    monkeypatch: pytest.MonkeyPatch,
    context: dict[str, Any],
    skipped: list[tuple[bool, bool]],
    raised: type[Exception],
) -> None:
    answers = [
        CheckResult(
            name="models",
            family="embeddings",
            status="skip",
            required=required,
            retryable=retryable,
        )
        for required, retryable in skipped
    ]
    stage(monkeypatch, "check_stage", report(results=answers, verdict="could not verify"))
    with pytest.raises(AirflowException) as caught:
        CheckRestoreOperator(task_id="check", cluster="agents").execute(context)
    assert type(caught.value) is raised


def test_a_report_keeps_the_errors_own_word_and_no_other_place_decides_what_is_tried_again() -> (
    None
):
    kept = Report.model_validate_json(
        report(
            restore=Stage(status="could not verify", trouble=trouble(StandbyConflict))
        ).model_dump_json()
    )
    assert kept.worth_another_try
    sources = Path(pgdrill.__file__).parent.rglob("*.py")
    deciding = {
        file.name
        for file in sources
        if re.search(r"retryable\s*=\s*(True|.*reason)", file.read_text())
    }
    assert deciding == {"errors.py"}


def test_a_drill_is_refused_before_anything_is_touched(
    context: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(AirflowFailException, match=r"yesterday.*expected latest"):
        BeginDrillOperator(task_id="begin", cluster="agents", target="yesterday").execute(context)
    with pytest.raises(AirflowFailException, match=r"everything.*expected recovery"):
        CheckRestoreOperator(task_id="check", cluster="agents", families=["everything"]).execute(
            context
        )
    assert not (tmp_path / "work").exists()


def test_an_unknown_cluster_is_named_with_those_that_exist(context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match=r"'nobody'.*only agents"):
        BaseBackupOperator(task_id="backup", cluster="nobody").execute(context)


# Connections


def test_connections_bring_address_login_and_secrets() -> None:
    access = ClusterHook("agents").get_conn()
    assert access.conninfo()["password"] == PASSWORD
    assert access.conninfo()["user"] == "drill"
    assert access.environment["AWS_ACCESS_KEY_ID"] == "the-key"
    assert access.environment["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert PASSWORD not in repr(access)
    assert SECRET not in repr(access)


def test_an_extra_brings_tls_region_and_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(
        monkeypatch,
        "agents_postgres",
        conn_type="postgres",
        host="h",
        password=PASSWORD,
        extra={"sslmode": "verify-full", "cursor": "dictcursor"},
    )
    connect(
        monkeypatch,
        "agents_s3",
        conn_type="aws",
        login="k",
        password=SECRET,
        extra={
            "region_name": "eu-central-1",
            "endpoint_url": "http://s3.example.org",
            "aws_session_token": "token-of-an-hour",
        },
    )
    access = ClusterHook("agents").get_conn()
    assert access.conninfo()["sslmode"] == "verify-full"
    assert "cursor" not in access.conninfo()
    assert access.cluster.repository.region == "eu-central-1"
    assert access.cluster.repository.endpoint_url == "http://s3.example.org"
    assert access.environment["AWS_SESSION_TOKEN"] == "token-of-an-hour"


def test_what_the_file_says_itself_goes_before_the_connection(
    monkeypatch: pytest.MonkeyPatch, write_config: Callable[..., Path]
) -> None:
    file = write_config("agents")
    file.write_text(
        file.read_text().replace(
            'conn_id = "agents_s3"', 'conn_id = "agents_s3"\nregion = "us-west-2"'
        )
    )
    connect(
        monkeypatch,
        "agents_s3",
        conn_type="aws",
        login="k",
        password=SECRET,
        extra={"region_name": "eu-central-1"},
    )
    assert ClusterHook("agents").get_conn().cluster.repository.region == "us-west-2"


def test_a_connection_without_keys_leaves_the_machines_role_to_the_tools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect(monkeypatch, "agents_s3", conn_type="aws", extra={"region_name": "eu-central-1"})
    access = ClusterHook("agents").get_conn()
    assert not access.credentials.environment
    assert access.cluster.repository.region == "eu-central-1"


def test_without_a_conn_id_the_environment_counts(
    monkeypatch: pytest.MonkeyPatch, write_config: Callable[..., Path]
) -> None:
    file = write_config("agents")
    file.write_text(re.sub(r'conn_id = ".*"\n', "", file.read_text()))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from-the-environment")
    access = ClusterHook("agents").get_conn()
    assert not access.credentials.postgres
    assert access.environment["AWS_SECRET_ACCESS_KEY"] == "from-the-environment"


@pytest.mark.parametrize(
    ("conn_id", "words", "message"),
    [
        ("agents_s3", {"conn_type": "http", "host": "x"}, "agents_s3.*type 'http'.*type 'aws'"),
        ("agents_postgres", {"conn_type": "mysql", "host": "x"}, "agents_postgres.*type 'mysql'"),
        (
            "agents_postgres",
            {"conn_type": "postgres", "extra": {"no_such_word": "1"}},
            "agents_postgres.*no_such_word",
        ),
    ],
)
def test_a_connection_that_does_not_fit_is_named(
    monkeypatch: pytest.MonkeyPatch, conn_id: str, words: dict[str, Any], message: str
) -> None:
    connect(monkeypatch, conn_id, **words)
    with pytest.raises(ConfigError, match=message):
        ClusterHook("agents").get_conn()


# Being killed, being drawn


def task_of(kind: str) -> Any:
    """A task of an operator, with what it needs at least."""
    operator = getattr(operators, kind)
    more = {"queue_name": "jobs"} if "queue_name" in operator.template_fields else {}
    return operator(task_id="x", cluster="agents", **more)


@pytest.mark.parametrize("kind", ON_A_CLUSTER)
def test_killing_a_task_stops_what_runs_and_what_would_run_next(kind: str) -> None:
    task = task_of(kind)
    task.on_kill()
    assert task.runner.stopped


def test_killing_a_restore_ends_its_server_first(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    from pgdrill.airflow.operators import restore_cluster

    ended: list[Path] = []
    monkeypatch.setattr(
        restore_cluster, "end_at_once", lambda server: ended.append(server.data_directory)
    )
    task = RestoreClusterOperator(task_id="restore", cluster="agents", drill_id="d1")

    def killed(access: Any, drill_id: str, **more: Any) -> Report:
        Path(access.cluster.state_directory / "drills" / drill_id).mkdir(parents=True)
        task.on_kill()
        raise Stopped("stopped")

    monkeypatch.setattr(drill, "restore_stage", killed)
    with pytest.raises(AirflowException):
        task.execute(context)
    (data_directory,) = ended
    assert data_directory.name == "data"
    assert not data_directory.parent.exists(), "a killed restore left something"


@pytest.mark.parametrize("kind", ON_A_CLUSTER)
def test_every_operator_documents_its_parameters_and_renders_no_secret(kind: str) -> None:
    operator = getattr(operators, kind)
    task = task_of(kind)
    for name in operator.template_fields:
        assert f":param {name}:" in operator.__doc__
    task.render_template_fields({"run_id": RUN_ID, "params": {}, "ti": FakeTask()})
    rendered = json.dumps({name: getattr(task, name) for name in operator.template_fields})
    assert PASSWORD not in rendered
    assert SECRET not in rendered
    if "drill_id" in operator.template_fields:
        assert task.drill_id == ("d1" if "Passed" in kind else RUN_ID)


def test_progress_is_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    caplog.set_level("INFO")
    silent, loud = (
        ProgressLog(logging.getLogger("x"), every_seconds=seconds) for seconds in (60, 0)
    )
    silent("fetch", 1, 2)
    assert not caplog.messages
    loud("fetch", 500_000_000, 1_000_000_000)
    loud("backup", 7_000_000, 0)
    loud("replay", 0, 0)
    assert caplog.messages[:2] == ["fetch: 500 of 1000 MB (50 %)", "backup: 7 MB"]
    assert caplog.messages[2].startswith("replay goes on after")


def test_the_provider_tells_what_airflow_asks_of_one_and_all_of_it_is_there() -> None:
    import airflow
    import jsonschema

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    told = get_provider_info()
    jsonschema.validate(told, schema)
    integrations = {one["integration-name"] for one in told["integrations"]}
    for kind, base, exported in (
        ("operators", BaseOperator, operators.__all__),
        ("hooks", BaseHook, hooks.__all__),
    ):
        assert {one["integration-name"] for one in told[kind]} <= integrations
        found = {
            name
            for one in told[kind]
            for module in one["python-modules"]
            for name, it in vars(importlib.import_module(module)).items()
            if isinstance(it, type) and issubclass(it, base) and it.__module__ == module
        }
        assert found == set(exported)


def test_the_provider_names_the_scheme_of_every_asset(write_config: Callable[..., Path]) -> None:
    from pgdrill.airflow.dags import base_backup_dag, logical_dump_dag
    from pgdrill.config import load

    settings = load()
    drawn = [
        make(settings.cluster("agents"), settings) for make in (base_backup_dag, logical_dump_dag)
    ]
    schemes = {
        urlsplit(asset.uri).scheme for dag in drawn for task in dag.tasks for asset in task.outlets
    }
    assert schemes == {it for one in get_provider_info()["asset-uris"] for it in one["schemes"]}


@pytest.mark.parametrize(
    "name",
    [
        "ApprovePlanOperator",
        "ChoosePruneOperator",
        "DestroyClusterOperator",
        "DestroyDumpClusterOperator",
        "RefusedOperator",
    ],
)
def test_an_operator_by_its_old_name_is_the_new_one_and_says_until_when(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{name} is now \w+Operator; .*until version 0\."):
        operator = getattr(operators, name)
    assert operator.__name__ in operators.__all__


def test_a_vector_search_check_is_a_check_of_the_restore() -> None:
    assert issubclass(operators.VectorSearchCheckOperator, CheckRestoreOperator)


def test_a_task_of_ones_own_reaches_the_cluster_by_the_hook(
    context: dict[str, Any], write_config: Callable[..., Path]
) -> None:
    @task
    def user(cluster: str) -> str:
        return hooks.ClusterHook(cluster).get_conn().conninfo()["user"]

    with DAG("theirs", schedule=None):
        asked = user("agents")
    assert asked.operator.python_callable("agents") == "drill"


@pytest.mark.parametrize("native", [False, True], ids=["a DAG of texts", "a DAG of objects"])
@pytest.mark.parametrize(
    "text", ["123", "1e5", "0/1234", "lsn:0/3000028", "None", "True", "[1]", "007", "'a'", "1_0"]
)
def test_text_stays_text_and_lists_and_ticks_come_as_themselves_whatever_the_dag_renders(
    native: bool, text: str
) -> None:
    with DAG("theirs", schedule=None, render_template_as_native_obj=native):
        begin = BeginDrillOperator(
            task_id="begin", cluster="{{ params.text }}", drill_id="{{ run_id }}", target=text
        )
        check = CheckRestoreOperator(
            task_id="check", cluster="agents", families="{{ params.families }}"
        )
        dump = operators.LogicalDumpOperator(
            task_id="dump", cluster="agents", databases=["{{ params.text }}", "1e5"]
        )
        destroy = DestroyRestoredClusterOperator(
            task_id="destroy", cluster="agents", keep="{{ params.keep }}"
        )
        approve = operators.RetentionApprovalOperator(
            task_id="approve", subject="{{ params.text }}", plan="{{ params.text }}"
        )
    for keep in (False, True, None):
        words = {"text": text, "families": ["rows", text], "keep": keep}
        for one in (begin, check, dump, destroy, approve):
            again = copy.copy(one)
            again.render_template_fields({"run_id": text, "params": words})
            if one is begin:
                assert (again.cluster, again.drill_id, again.target) == (text, text, text)
            elif one is check:
                assert again.families == ["rows", text]
            elif one is dump:
                assert again.databases == [text, "1e5"]
            elif one is destroy:
                assert again.keep is keep
            else:
                assert (again.subject, again.plan) == (text, text)


def test_a_list_or_a_tick_that_came_as_text_is_refused_in_words(context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match=r"families: found 'vectors'; expected a list"):
        CheckRestoreOperator(task_id="x", cluster="agents", families="vectors").execute(context)
    with pytest.raises(AirflowFailException, match=r"keep: found 'perhaps'; expected true or fal"):
        operators.LogicalRestoreOperator(task_id="x", cluster="agents", keep="perhaps").execute(
            context
        )


@pytest.mark.parametrize("kind", operators.__all__)
def test_what_a_task_does_is_said_at_its_execute(kind: str) -> None:
    operator = getattr(operators, kind)
    said = (operator.execute.__doc__ or "").strip()
    assert len(said.split()) > 6 or not vars(operator).get("execute")
    assert set(operator.template_fields_renderers) <= set(operator.template_fields)


def test_the_local_copy_of_a_report_is_not_needed_to_say_where_it_is() -> None:
    from pgdrill.airflow.xcom import where

    assert where(report().kept_at) == "s3://bucket/pgdrill/reports/d1.json"
    assert where([]) == ""
    assert store.report_key("d1") == "reports/d1.json"


def test_a_held_cluster_is_waited_for_without_a_slot_and_not_longer_than_a_drill_may_take(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    held = Busy(
        "drill of agents",
        found="held by d0 until noon",
        expected="one at a time",
        hint="wait",
        until=None,
    )
    stage(monkeypatch, "restore_stage", held)
    task = RestoreClusterOperator(task_id="restore", cluster="agents")
    with pytest.raises(AirflowRescheduleException) as again:
        task.execute(context)
    assert timedelta() < again.value.reschedule_date - datetime.now(UTC) < timedelta(seconds=10)
    assert (
        "waiting, for drill of agents is held by d0 until noon; gives up at"
        in capsys.readouterr().out
    )
    assert context["ti"].pushed["drill_id"], "whoever has to clear up knows of it"
    # drill.timeout_seconds is 1800 here
    context["ti"].waiting_since = datetime.now(UTC) - timedelta(seconds=1801)
    with pytest.raises(
        AirflowFailException, match=r"(?s)held by d0 until noon.*waited for, 30 minutes"
    ):
        task.execute(context)


@pytest.mark.parametrize(
    "task",
    [
        BaseBackupOperator(task_id="backup", cluster="agents"),
        operators.LogicalDumpOperator(task_id="dump", cluster="agents"),
    ],
)
def test_what_can_be_had_of_today_only_is_not_backfilled(
    context: dict[str, Any], task: Any
) -> None:
    context["dag_run"].run_type = "backfill"
    with pytest.raises(AirflowFailException, match=r"of the past cannot be taken.*Hint"):
        task.execute(context)


@pytest.mark.parametrize(
    ("library", "task"),
    [
        ("pgdrill.backup.take_backup", BaseBackupOperator(task_id="backup", cluster="agents")),
        (
            "pgdrill.logical.take.take_dump",
            operators.LogicalDumpOperator(task_id="dump", cluster="agents"),
        ),
        (
            "pgdrill.logical.drill.drill_dump",
            operators.LogicalRestoreOperator(task_id="restore", cluster="agents"),
        ),
        (
            "pgdrill.retention.prune.prune",
            operators.PruneOperator(task_id="prune", cluster="agents", apply=True),
        ),
    ],
)
def test_every_job_that_another_one_keeps_out_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any], library: str, task: Any
) -> None:
    def held(*_: Any, **__: Any) -> None:
        raise Busy("drill of agents", found="held by d0", expected="one at a time", hint="wait")

    monkeypatch.setattr(library, held)
    monkeypatch.setattr("pgdrill.airflow.attempts._known_of_dumps", lambda access: set())
    with pytest.raises(AirflowRescheduleException):
        task.execute(context)
    context["ti"].waiting_since = datetime.now(UTC) - timedelta(days=1)
    with pytest.raises(AirflowFailException, match="held by d0"):
        task.execute(context)


def test_a_run_is_green_only_if_the_report_says_passed(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    kept = {
        "d1": report(verdict="passed"),
        "d2": report(verdict="could not verify", reason="checks: not run", checks=Stage()),
    }
    monkeypatch.setattr(store, "load_report", lambda access, drill_id: kept[drill_id])
    task = operators.DrillPassedOperator(task_id="passed", cluster="agents", drill_id="d1")
    assert task.execute(context) == "passed"
    task.drill_id = "d2"
    with pytest.raises(
        AirflowFailException, match=r"(?s)could not verify \(checks: not run\).*Hint: clear `check`"
    ):
        task.execute(context)
    task.drill_id = ""
    with pytest.raises(AirflowFailException, match="no drill was begun"):
        task.execute(context)
