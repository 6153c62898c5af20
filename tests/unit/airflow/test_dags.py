"""The DAG files as Airflow reads them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.types import DagRunType

from pgdrill.airflow import begun
from pgdrill.airflow.operators.check_restore import FAMILIES
from pgdrill.config import load

DAGS = Path(__file__).parents[3] / "dags"
Write = Callable[..., Path]
JOBS = ("backup_health", "base_backup", "logical_dump", "restore_drill", "retention")
PARSED = {f"{job}.py": job for job in JOBS}


def bag(folder: Path = DAGS) -> DagBag:
    return DagBag(str(folder))


@pytest.fixture
def dags(write_config: Write) -> dict[str, DAG]:
    """The DAGs of one cluster, `agents`."""
    read = bag()
    assert not read.import_errors
    return dict(read.dags)


@pytest.fixture
def drill(dags: dict[str, DAG]) -> DAG:
    """The drill's DAG."""
    return dags["agents.restore_drill"]


@pytest.fixture
def backup(dags: dict[str, DAG]) -> DAG:
    """The backup's DAG."""
    return dags["agents.base_backup"]


def choose(dag: DAG, conf: dict[str, Any]) -> None:
    """What a manual run does with the form's values."""
    for name, value in conf.items():
        dag.params[name] = value
    dag.params.validate()


def test_each_cluster_has_its_own_dags(write_config: Write) -> None:
    write_config("agents", "billing")
    read = bag()
    assert not read.import_errors
    assert {
        f"{cluster}.{job}" for cluster in ("agents", "billing") for job in PARSED.values()
    } <= set(read.dags)


@pytest.mark.parametrize(
    ("dag_id", "cron"),
    [
        ("agents.base_backup", "0 2 * * 0"),
        ("agents.restore_drill", "0 11 * * 5"),
        ("agents.logical_dump", "0 4 1 * *"),
    ],
)
def test_schedules_are_as_promised_and_in_utc(dags: dict[str, DAG], dag_id: str, cron: str) -> None:
    timetable = DagSerialization.to_dict(dags[dag_id])["dag"]["timetable"]["__var"]
    assert (timetable["expression"], timetable["timezone"]) == (cron, "UTC")


@pytest.mark.parametrize("dag_id", [f"agents.{job}" for job in PARSED.values()])
def test_a_dag_runs_once_at_a_time_never_for_the_past_and_says_what_to_do(
    dags: dict[str, DAG], dag_id: str
) -> None:
    dag = dags[dag_id]
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert dag.start_date is None, "with a start_date, unpausing starts the run that was due last"
    assert {"pgdrill", "agents"} <= set(dag.tags)
    assert dag.doc_md is not None
    assert "red" in dag.doc_md
    assert "s3://bucket/agents" in dag.doc_md
    for task in dag.tasks:
        assert task.owner == "the-owners"
        assert task.doc_md


def test_every_working_task_has_a_time_limit_beyond_the_librarys_own_and_bounded_retries(
    dags: dict[str, DAG],
) -> None:
    for dag_id in ("agents.base_backup", "agents.restore_drill", "agents.logical_dump"):
        for task in dags[dag_id].tasks:
            assert task.execution_timeout is not None, task.task_id
            assert task.retries == 2
            assert task.retry_delay >= timedelta(seconds=30)
    drill = dags["agents.restore_drill"]
    for name in ("restore", "check"):
        limit = drill.get_task(name).execution_timeout
        assert limit is not None
        assert limit > timedelta(seconds=1800)


def test_no_dag_has_a_time_limit_that_would_skip_the_teardown(drill: DAG) -> None:
    assert drill.dagrun_timeout is None


def test_the_cluster_is_destroyed_also_when_the_restore_failed(drill: DAG) -> None:
    begin, restore, destroy = (drill.get_task(name) for name in ("begin", "restore", "destroy"))
    assert begin.is_setup
    assert restore.is_setup
    assert destroy.is_teardown
    assert destroy.upstream_task_ids == {"begin", "restore", "check"}
    assert destroy.trigger_rule == "all_done_setup_success"


def test_a_failed_check_fails_the_run_although_the_teardown_counts(drill: DAG) -> None:
    for name in ("destroy", "passed"):
        task = drill.get_task(name)
        assert task.is_teardown
        assert task.on_failure_fail_dagrun is True
        assert not task.downstream_task_ids


@pytest.mark.parametrize(
    ("dag_id", "cleared"),
    [
        *[("agents.restore_drill", task) for task in ("begin", "restore", "check")],
        *[("agents.logical_dump", task) for task in ("dump", "restore")],
    ],
)
def test_whatever_is_cleared_alone_the_run_is_judged_again(
    dags: dict[str, DAG], dag_id: str, cleared: str
) -> None:
    """As Airflow's *Clear* without what follows: it takes along what it must."""
    again = DagSerialization.from_dict(DagSerialization.to_dict(dags[dag_id])).partial_subset(
        [cleared], include_upstream=False
    )
    assert {"passed", "destroy"} <= set(again.task_dict)


def test_the_backup_leaves_an_asset_that_the_restore_reads(backup: DAG, drill: DAG) -> None:
    outlets, inlets = backup.get_task("backup").outlets, drill.get_task("restore").inlets
    assert [asset.name for asset in outlets] == ["agents.base_backups"]
    assert outlets == inlets


@pytest.mark.parametrize(
    ("dag_id", "names"),
    [
        ("agents.restore_drill", {"backup", "target", "checks", "keep"}),
        ("agents.logical_dump", {"databases", "bin_dir", "migrations", "keep"}),
        ("agents.retention", {"apply", "also", "allow"}),
    ],
)
def test_every_param_explains_itself(dags: dict[str, DAG], dag_id: str, names: set[str]) -> None:
    params = dags[dag_id].params
    assert set(params) == names
    for name in params:
        param = params.get_param(name)
        assert param.schema["title"]
        assert len(param.schema["description_md"]) > 20
        assert param.description is None, "which the form would show instead"
        assert "section" not in param.schema, "sections are folded"


@pytest.mark.parametrize(
    "conf",
    [
        {"target": "yesterday"},
        {"target": "time:2026-11-20T11:00:00"},  # without a zone it could be any of 26 hours
        {"target": "before:2026-11-20T11:00:00"},
        {"target": "random:7"},
        {"target": "lsn:3000028"},
        {"target": "name:it's"},
        {"target": ""},
        {"backup": ""},
        {"backup": "LATEST; rm -rf /"},
        # the words of a refusal
        {"backup": "a base backup's full name, as `pgdrill backups` shows it"},
        {"checks": []},
        {"checks": ["everything"]},
        {"keep": "perhaps"},
    ],
)
def test_params_refuse_what_cannot_work(drill: DAG, conf: dict[str, Any]) -> None:
    with pytest.raises(ParamValidationError):
        choose(drill, conf)


@pytest.mark.parametrize(
    "conf",
    [
        {"databases": "agents"},
        {"databases": ["one,two"]},
        {"databases": [""]},
        {"bin_dir": "pgsql/bin"},
        {"bin_dir": "/a'b"},
        {"migrations": "migrations"},
        {"migrations": "nothing, for none"},
        {"keep": "perhaps"},
    ],
)
def test_a_dumps_params_refuse_what_cannot_work(dags: dict[str, DAG], conf: dict[str, Any]) -> None:
    with pytest.raises(ParamValidationError):
        choose(dags["agents.logical_dump"], conf)


def test_a_dumps_params_take_databases_another_postgresql_and_migrations(
    dags: dict[str, DAG],
) -> None:
    choose(
        dags["agents.logical_dump"],
        {
            "databases": ["agents", "Strange name"],
            "bin_dir": "/usr/lib/postgresql/19/bin",
            "migrations": "/srv/migrations",
            "keep": True,
        },
    )


@pytest.mark.parametrize(
    "conf",
    [
        {"target": "latest"},
        {"target": "random"},
        {"target": "alternate"},
        {"target": "before:2026-11-20T11:00:00Z"},
        {"target": "time:2026-11-20T11:00:00Z"},
        {"target": "time:2026-11-20 11:00+01:00"},
        {"target": "lsn:0/3000028"},
        {"target": "name:before_migration"},
        {"backup": "base_000000010000000000000004"},
        {"backup": "20261123T231814"},
        {"checks": ["vectors"], "keep": True},
    ],
)
def test_params_take_what_the_library_takes(drill: DAG, conf: dict[str, Any]) -> None:
    from pgdrill.recovery.targets import parse_target

    choose(drill, conf)
    if "target" in conf:
        parse_target(conf["target"])


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        ("scheduled", "alternate"),
        ("manual", "latest"),
        ("backfill", "time:2026-11-20T11:00:00+00:00"),
    ],
)
def test_scheduled_drills_alternate_those_by_hand_do_as_the_form_says_and_those_of_the_past_mean_their_date(  # noqa: E501
    drill: DAG, kind: str, chosen: str
) -> None:
    run = SimpleNamespace(
        run_type=DagRunType(kind), logical_date=datetime(2026, 11, 20, 11, tzinfo=UTC)
    )
    for task_id in ("begin", "restore"):
        task = drill.get_task(task_id)
        shown = (
            drill.get_template_env()
            .from_string(task.target)
            .render(dag_run=run, params={"target": "latest"})
        )
        assert shown == chosen


def test_the_form_offers_every_family_of_checks() -> None:
    from pgdrill import checks

    assert set(FAMILIES) == set(checks.FAMILIES)


MAY_STAY_EMPTY = {
    "restore_drill": {"keep"},
    "logical_dump": {"databases", "bin_dir", "migrations", "keep"},
    "retention": {"apply", "also", "allow"},
}


@pytest.mark.parametrize("job", MAY_STAY_EMPTY)
def test_what_may_stay_empty_is_not_marked_as_required_and_nothing_is_taken_for_it(
    dags: dict[str, DAG], job: str
) -> None:
    """The form has a red star wherever the schema's type has no null, and sends null for empty."""
    dag = dags[f"agents.{job}"]
    free = {name for name in dag.params if "null" in dag.params.get_param(name).schema["type"]}
    assert free == MAY_STAY_EMPTY[job]
    choose(dag, dict.fromkeys(free))


@pytest.mark.parametrize(
    ("dag_id", "conf", "words"),
    [
        (
            "restore_drill",
            {"target": "tomorrow"},
            (
                "'tomorrow' is not one of [['latest', 'random', 'alternate',"
                " 'time:2026-11-20T11:00:00Z"
            ),
        ),
        ("restore_drill", {"backup": "a b"}, "'a b' is not one of [['LATEST', "),
        ("logical_dump", {"bin_dir": "bin"}, "'bin' is not one of"),
        ("logical_dump", {"databases": ["a,b"]}, "'a,b' is not one of"),
        ("retention", {"also": ["../x"]}, "'../x' is not one of"),
    ],
)
def test_what_a_param_refuses_is_told_in_words_and_not_by_a_pattern(
    dags: dict[str, DAG], dag_id: str, conf: dict[str, Any], words: str
) -> None:
    with pytest.raises(ParamValidationError) as caught:
        choose(dags[f"agents.{dag_id}"], conf)
    told = str(caught.value)
    assert words in told
    assert "{1," not in told and "^" not in told, "no pattern"
    assert len(told) < 900, "no wall"


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        True,
        "",
        " ",
        [],
        ["x"],
        [3],
        [""],
        {},
        {"a": 1},
        "billing",
        "LATEST\n",
        "latest\n",
        "/a\nb",
        "/a\0b",
        "/" + 300 * "a",
        ["a\n"],
    ],
    ids=repr,
)
def test_whatever_is_typed_into_a_form_is_taken_or_refused_in_words_with_what_would_be(
    dags: dict[str, DAG], value: Any
) -> None:
    for dag_id, dag in dags.items():
        for name in dag.params:
            try:
                choose(dag, {name: value})
            except ParamValidationError as error:
                told = str(error)
                first = told.partition("\n\nFailed")[0]
                assert "is not one of [" in first or "non-empty" in first, (
                    f"{dag_id} {name}: {told}"
                )
                assert "^" not in told and "pattern" not in told, f"{dag_id} {name}: a wall: {told}"
            else:
                strange = isinstance(value, str) and (
                    "\n" in value or "\0" in value or len(value) > 200
                )
                empty = name in MAY_STAY_EMPTY[dag_id.partition(".")[2]]
                assert not strange and (value is not None or empty), (
                    f"{dag_id} {name} takes {value!r}"
                )


TYPO = "rto_secnods = 5"


def wrong(write_config: Write, name: str, more: str = TYPO) -> Path:
    """A file in which this cluster is wrong, beside the good `agents`."""
    file = write_config("agents")
    good, bad = file.read_text(), write_config(name, more=more).read_text()
    file.write_text(good + bad)
    return file


def import_error() -> str:
    """The only one there is."""
    errors = bag().import_errors
    assert [Path(name).name for name in errors] == ["configuration.py"]
    return next(iter(errors.values()))


def test_a_cluster_that_is_wrong_costs_its_own_dags_and_the_import_error_begins_with_what_is_wrong(
    write_config: Write,
) -> None:
    file = wrong(write_config, "billing")
    assert set(bag().dags) == {f"agents.{job}" for job in PARSED.values()}
    first = import_error().splitlines()[0]
    for words in (
        "Cluster billing has no DAGs",
        str(file),
        "[clusters.billing.drill.rto_secnods] is no known key; did you mean rto_seconds?",
        "Hint:",
        "The DAGs of agents are not touched",
    ):
        assert words in first


def test_a_schedule_that_is_no_cron_costs_that_dag_alone(write_config: Write) -> None:
    file = wrong(write_config, "billing", 'schedule = "every friday"')
    assert set(bag().dags) == {
        f"{name}.{job}" for name in ("agents", "billing") for job in PARSED.values()
    } - {"billing.restore_drill"}
    first = import_error().splitlines()[0]
    assert str(file) in first
    assert "[clusters.billing.drill] schedule" in first


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "PGDRILL_CONFIG"),
        ("a b", "line 1"),
        ("", "[clusters] is missing"),
        (f"[clusters.agents]\n{TYPO}", "[clusters.agents.server] is missing"),
    ],
    ids=["no file", "no TOML", "an empty one", "none that is right"],
)
def test_a_file_without_one_good_cluster_leaves_no_dag_and_says_so(
    write_config: Write, content: str | None, words: str
) -> None:
    file = write_config()
    file.unlink() if content is None else file.write_text(content)
    assert not bag().dags
    first = import_error().splitlines()[0]
    assert first.startswith("pgdrill.LeftOut: No cluster has DAGs. ")
    assert words in first
    assert "Hint:" in first


def test_a_good_file_has_no_import_error(write_config: Write) -> None:
    assert not bag().import_errors


@pytest.mark.parametrize(
    "content", ["[clusters", "renamed", 'schedule = "x"'], ids=["no TOML", "renamed", "a schedule"]
)
def test_the_dags_of_a_job_at_work_stay_drawn_as_they_were_whatever_becomes_of_the_file(
    write_config: Write, content: str
) -> None:
    file = write_config("agents")
    before = {name: DagSerialization.to_dict(dag) for name, dag in bag().dags.items()}
    begun.keep("agents.restore_drill run", load().cluster("agents"))
    try:
        if content == "renamed":
            file.write_text(file.read_text().replace("agents", "billing"))
            assert len(bag().dags) == 2 * len(PARSED)
        elif content == "[clusters":
            file.write_text(content)
        else:
            write_config("agents", more=content)
        after = bag()
        assert {name: DagSerialization.to_dict(after.dags[name]) for name in before} == before
        if content == "[clusters":
            assert (
                "Jobs of agents that have begun go on with the configuration that they began with"
                in import_error()
            )
    finally:
        shutil.rmtree(begun.folder())


@pytest.mark.parametrize("file", [*PARSED, "configuration.py"])
def test_reading_a_dag_file_imports_nothing_heavy(write_config: Write, file: str) -> None:
    heavy = (
        "numpy",
        "boto3",
        "botocore",
        "obstore",
        "pgvector",
        "pgdrill.access",
        "airflow.providers.postgres.hooks.postgres",
        "airflow.providers.amazon.aws.hooks.base_aws",
    )
    code = (
        f"import json, runpy, sys; runpy.run_path({str(DAGS / file)!r});"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
