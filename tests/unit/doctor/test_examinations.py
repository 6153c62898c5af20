"""Every examination explains itself, the documentation keeps step, and what breaks or hangs is
never green.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from pgdrill.access import Access, Credentials
from pgdrill.config import parse
from pgdrill.doctor import EXAMINATIONS, JOBS, PARTS, diagnose, in_order
from pgdrill.doctor import airflow as of_airflow
from pgdrill.doctor import configuration as of_file
from pgdrill.doctor.examination import Examination
from pgdrill.doctor.model import Finding, green
from pgdrill.doctor.render import as_markdown
from pgdrill.doctor.subject import Subject

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "doctor.md"
README = DOCS.parents[2] / "README.md"
SECRET = "hunter2-very-secret"


@pytest.mark.parametrize("name", EXAMINATIONS)
def test_every_examination_explains_itself(name: str) -> None:
    one = EXAMINATIONS[name]
    assert one.part in PARTS
    assert all((one.green, one.hint, one.example, one.ask.__doc__))
    assert set(one.jobs) <= set(JOBS)
    assert all(need in EXAMINATIONS for need in (*one.needs, *one.after))


def test_nothing_waits_for_what_waits_for_it() -> None:
    def below(name: str, seen: tuple[str, ...] = ()) -> None:
        assert name not in seen, f"{' needs '.join((*seen, name))}"
        for need in (*EXAMINATIONS[name].needs, *EXAMINATIONS[name].after):
            below(need, (*seen, name))

    for name in EXAMINATIONS:
        below(name)


def test_docs_doctor_md_holds_the_table_of_all_examinations() -> None:
    table = as_markdown(in_order())
    assert DOCS.read_text().endswith(table), (
        "replace the table of docs/reference/doctor.md by what `pgdrill doctor --markdown` prints"
    )
    assert all(f"| `{name}` |" in table for name in EXAMINATIONS)
    assert "(docs/reference/doctor.md)" in README.read_text()


def access(home: Path, **server: object) -> Access:
    cluster = {
        "server": {"data_directory": f"{home}/pgdata", **server},
        "repository": {"url": f"file://{home}/backups"},
    }
    settings = parse({"clusters": {"agents": cluster}}, home / "dr.toml")
    return Access(
        settings.cluster("agents"),
        Credentials({"password": SECRET}, {"AWS_SECRET_ACCESS_KEY": f"key-{SECRET}"}),
    )


def only(monkeypatch: pytest.MonkeyPatch, *examinations: Examination) -> None:
    monkeypatch.setattr("pgdrill.doctor.run.in_order", lambda: list(examinations))


def made(name: str, ask: object, needs: tuple[str, ...] = ()) -> Examination:
    return Examination(name, "server", "all well", "do something", "an example", ask, needs)  # type: ignore[arg-type]


def test_what_breaks_and_what_hangs_is_unknown_and_so_is_what_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def breaks(_: Subject) -> Iterator[Finding]:
        yield green("half", "an answer")
        raise KeyError(SECRET)

    def hangs(_: Subject) -> Iterator[Finding]:
        ended.wait(60)
        yield green("late", "an answer")

    only(
        monkeypatch,
        made("breaks", breaks),
        made("hangs", hangs),
        made("waits", lambda _: [green("never", "asked")], ("hangs",)),
        made("well", lambda _: [green("here", "an answer")]),
    )
    found = diagnose(access(tmp_path), seconds=0.5)
    ended.set()
    assert [(one.name, one.status) for one in found.lines] == [
        ("breaks", "green"),
        ("breaks", "unknown"),
        ("hangs", "unknown"),
        ("waits", "unknown"),
        ("well", "green"),
    ]
    assert (found.exit_code, found.seconds < 10) == (2, True)
    assert all(one.hint for one in found.lines if one.status == "unknown")
    assert SECRET not in found.model_dump_json()


def test_no_line_holds_a_secret_whoever_said_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tells(_: Subject) -> Iterator[Finding]:
        yield Finding(
            "red", f"thing {SECRET}", f"found key-{SECRET}", f"expected {SECRET}", f"hint {SECRET}"
        )

    only(monkeypatch, made("tells", tells))
    found = diagnose(access(tmp_path))
    assert found.exit_code == 1
    assert (SECRET in found.model_dump_json(), "***" in found.lines[0].found) == (False, True)


def test_airflow_is_not_asked_where_it_is_not_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = diagnose(access(tmp_path), parts=("airflow",))
    assert {one.status for one in found.lines} == {"not asked"}
    assert not (tmp_path / "airflow").exists()


def lines_of_airflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, object], **server: object
) -> dict[str, Finding]:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    subject = Subject(access(tmp_path, **server))
    subject.airflow = {
        "folders": [f"{tmp_path}/dags"],
        "executor": "LocalExecutor",
        "default_queue": "default",
        "connections": {},
        **said,
    }
    asked = (of_airflow.dags, of_airflow.connections, of_airflow.queue)
    return {ask.__name__: next(iter(ask(subject))) for ask in asked}


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"type": "postgres"}, "green"),
        ({"type": "http"}, "red"),
        ({"trouble": ""}, "red"),
        ({"trouble": "MetastoreBackend: OperationalError"}, "unknown"),
    ],
)
def test_a_connection_is_there_or_of_another_type_or_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, str], status: str
) -> None:
    found = lines_of_airflow(
        tmp_path, monkeypatch, {"connections": {"agents_db": told}}, conn_id="agents_db"
    )
    assert found["connections"].status == status


def test_dag_files_are_found_by_what_they_make_and_a_queue_wants_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "mine.py").write_text(
        "base_backup_dag(c)\nrestore_drill_dag(c)\nretention_dag(c)"
    )
    found = lines_of_airflow(tmp_path, monkeypatch, {}, queue="db1")
    assert found["dags"].found == "no DAG file of logical_dump, backup_health"
    assert found["queue"].status == "warn"
    (tmp_path / "dags" / "more.py").write_text("logical_dump_dag(c)\nbackup_health_dag(c)")
    found = lines_of_airflow(
        tmp_path,
        monkeypatch,
        {"executor": "airflow.providers.celery.executors.celery_executor.CeleryExecutor"},
        queue="db1",
    )
    assert found["dags"].status == "green"
    assert "`airflow celery worker --queues db1`" in found["queue"].found


def test_what_the_file_names_is_looked_for_on_this_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EMBEDDER_KEY", raising=False)
    cluster = {
        "server": {"data_directory": f"{tmp_path}/pgdata"},
        "repository": {"url": f"file://{tmp_path}/backups"},
        "drill": {"schedule": "0 25 * * 5"},
        "application_test": {"command": ["no-such-program"]},
        "embeddings": {"api_key_variable": "EMBEDDER_KEY"},
        "deviations": [
            {
                "check": "canary",
                "object": "items.embedding",
                "reason": "ticket 4711",
                "until": date(2020, 1, 31),
            }
        ],
    }
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "bad.sql").write_text("-- name: bad\n-- expcet: rows\nSELECT 1")
    asked = Access(parse({"clusters": {"agents": cluster}}, tmp_path / "dr.toml").cluster("agents"))
    assert not (tmp_path / "backups").exists()
    lines = {one.name: one for one in diagnose(asked, parts=("configuration",)).lines}
    assert {name: one.status for name, one in lines.items()} == {
        "schedules": "red",
        "own-checks": "red",
        "known-deviations": "warn",
    }
    assert (lines["schedules"].found, lines["own-checks"].reason) == (
        "'0 25 * * 5'",
        "bad-sql-check",
    )
    subject = Subject(asked)
    assert [
        one.status for one in (*of_file.application_test(subject), *of_file.embedder_key(subject))
    ] == ["red", "red"]
    monkeypatch.setenv("EMBEDDER_KEY", "x")
    assert [one.status for one in of_file.embedder_key(subject)] == ["green"]
