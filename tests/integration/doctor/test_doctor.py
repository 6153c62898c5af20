"""What a job would meet, asked beforehand: all green on a healthy cluster, red where the real part
is wrong, green again by the hint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.baseline.heartbeat import beat
from pgdrill.cli import app
from pgdrill.config import parse
from pgdrill.doctor import Diagnosis, Job, Line, diagnose
from pgdrill.errors import CouldNotVerify
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.clock import measure
from pgdrill_demo.stack import preferred_tool
from tests.conftest import TOOLS, need
from tests.damage.small import SmallStack
from tests.faults.proxy import Proxy
from tests.integration.worlds import empty_server, production

PATIENCE_SECONDS = 120.0  # on a machine with all cores busy
COMMAND = re.compile(r"`([^`]+)`")
# settings that tests change while the server runs
RELOADED = ("archive_command", "archive_timeout")


def live(tool: str) -> contextlib.AbstractContextManager[SmallStack]:
    """A healthy production with one backup and a heartbeat; its archiving is set by file, as on a
    real server.
    """

    @contextlib.contextmanager
    def made() -> Iterator[SmallStack]:
        with production(tool) as stack:
            text = stack.config_file.read_text()
            stack.config_file.write_text(
                text.replace(
                    "[clusters.agents.drill]",
                    '[clusters.agents.drill]\nheartbeat = "public.pgdrill_heartbeat.at"',
                )
            )
            stack.primary.stop()
            options: dict[str, str] = stack.primary.options  # type: ignore[assignment]
            values = {name: options.pop(name) for name in RELOADED}
            with (stack.primary.data_directory / "postgresql.auto.conf").open("a") as file:
                file.writelines(
                    "{} = '{}'\n".format(name, value.replace("'", "''"))
                    for name, value in values.items()
                )
            stack.primary.start()
            take_backup(stack.access)
            yield stack

    return made()


@pytest.fixture(scope="module")
def world() -> Iterator[SmallStack]:
    """Shared: each test puts back what it broke, mostly by following the hint."""
    with live(preferred_tool()) as stack:
        yield stack


@pytest.fixture(autouse=True)
def _nothing_of_this_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "WALG_", "PG", "AIRFLOW")) and name != "PGDRILL_THOROUGH":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def ask(
    access: Access, *parts: str, jobs: tuple[Job, ...] = (), seconds: float = PATIENCE_SECONDS
) -> Diagnosis:
    found = diagnose(access, parts=parts, jobs=jobs, seconds=seconds)
    text = found.model_dump_json()
    words = (
        access.credentials.postgres.get("password", ""),
        *(v for k, v in access.environment.items() if "SECRET" in k),
    )
    assert not [word for word in words if word and word in text], "a secret is shown"
    return found


def line(found: Diagnosis, name: str) -> Line:
    """The one line of that examination."""
    (one,) = [one for one in found.lines if one.name == name]
    return one


def wrong(found: Diagnosis) -> dict[str, str]:
    """Examinations that are neither green nor not asked."""
    return {one.name: one.status for one in found.lines if one.status not in ("green", "not asked")}


def commands(one: Line) -> list[str]:
    found = COMMAND.findall(one.hint)
    assert found, f"nothing to follow in {one.hint!r}"
    return found


def changed(stack: SmallStack, **sections: dict[str, object]) -> Access:
    """Access with some keys of the configuration changed."""
    cluster = stack.cluster
    update = {
        name: getattr(cluster, name).model_copy(update=values) for name, values in sections.items()
    }
    return Access(cluster.model_copy(update=update), stack.credentials)


def as_superuser(stack: SmallStack, *statements: str, database: str = "agents") -> None:
    with stack.connect(database) as connection:
        for statement in statements:
            connection.execute(statement)


def keys(stack: SmallStack) -> set[str]:
    return set(stack.access.objects.sizes())


# --- A healthy one ---


@pytest.mark.parametrize("tool", TOOLS)
def test_all_is_green_on_a_healthy_cluster_and_nothing_is_changed(tool: str) -> None:
    with live(need(tool)) as stack:
        beat(stack.access)
        before = keys(stack)
        with stack.connect() as connection:
            (segment,) = connection.execute(
                "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"
            ).fetchone()
        found = ask(stack.access)
        assert wrong(found) == {}
        assert (found.exit_code, found.count("green") > 30) == (0, True)
        assert keys(stack) - before <= {"pgdrill/doctor-probe.json"}
        assert not list(stack.cluster.drill.work_directory.glob(".doctor*"))
        with stack.connect() as connection:
            assert connection.execute(
                "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"
            ).fetchone() == (segment,)


def test_the_command_shows_a_line_each_and_its_json_holds_the_same(world: SmallStack) -> None:
    beat(world.access)
    environment = {
        "PGDRILL_CONFIG": str(world.config_file),
        "PGUSER": "pgdrill",
        "PGPASSWORD": world.passwords["pgdrill"],
        **world.s3.environment,
    }
    shown = CliRunner().invoke(app, ["doctor", "agents", "--timeout", "120"], env=environment)
    assert shown.exit_code == 0, shown.output
    assert "green     login" in shown.stdout
    assert "all good" in shown.stdout
    found = Diagnosis.model_validate_json(
        CliRunner()
        .invoke(app, ["doctor", "--json", "--part", "server", "--timeout", "120"], env=environment)
        .stdout
    )
    assert {one.part for one in found.lines} == {"server"}
    red = CliRunner().invoke(
        app,
        ["doctor", "--part", "server", "--timeout", "120"],
        env={**environment, "PGPASSWORD": "no"},
    )
    assert red.exit_code == 1
    assert "hint" in red.stdout
    assert CliRunner().invoke(app, ["doctor", "--for", "nothing"], env=environment).exit_code == 2


# --- The server ---


def test_a_wrong_password_is_red_alone_and_what_needs_the_server_is_unknown(
    world: SmallStack, tmp_path: Path
) -> None:
    bad = dataclasses.replace(
        world.access,
        credentials=Credentials(
            {"user": "pgdrill", "password": "wrong-password"}, world.s3.environment
        ),
    )
    found = ask(bad)
    assert found.exit_code == 1
    assert {name for name, status in wrong(found).items() if status == "red"} == {"login"}
    assert "password authentication failed" in line(found, "login").found
    assert "PGPASSWORD" in line(found, "login").hint
    waiting = line(found, "rights")
    assert (waiting.status, waiting.hint) == ("unknown", "mend login first")
    assert line(found, "delete").status == line(found, "work-directory").status == "green"
    file = tmp_path / ".pgpass"  # of the home that tests have
    file.touch(mode=0o600)
    file.write_text(
        commands(line(found, "login"))[0].replace("PASSWORD", world.passwords["pgdrill"]) + "\n"
    )
    assert (
        wrong(
            ask(
                Access(world.cluster, Credentials({"user": "pgdrill"}, world.s3.environment)),
                "server",
                "rights",
            )
        )
        == {}
    )


@pytest.mark.parametrize(
    ("name", "revoke"),
    [
        ("rights", "REVOKE pg_read_all_data FROM pgdrill"),
        ("rights", "REVOKE pg_monitor FROM pgdrill"),
        ("rights", "ALTER ROLE pgdrill NOBYPASSRLS"),
        ("functions", "REVOKE EXECUTE ON FUNCTION pg_backup_start(text, boolean) FROM pgdrill"),
        ("functions", "REVOKE EXECUTE ON FUNCTION pg_backup_stop(boolean) FROM pgdrill"),
        ("functions", "REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM pgdrill"),
        ("functions", "REVOKE EXECUTE ON FUNCTION pg_create_restore_point(text) FROM pgdrill"),
        ("heartbeat", "REVOKE INSERT ON pgdrill_heartbeat FROM pgdrill"),
    ],
)
def test_each_right_that_is_lacking_brings_the_statement_that_grants_it(
    world: SmallStack, name: str, revoke: str
) -> None:
    beat(world.access)
    as_superuser(world, revoke)
    lacks = line(ask(world.access, "rights", "drill"), name)
    assert lacks.status == "red"
    as_superuser(world, *commands(lacks))
    assert line(ask(world.access, "rights", "drill"), name).status == "green"


SETTINGS = [
    ("ALTER ROLE pgdrill SET session_replication_role = 'replica'", "red"),
    ("ALTER ROLE pgdrill SET enable_indexscan = off", "warn"),
    ("ALTER ROLE pgdrill IN DATABASE agents SET hnsw.ef_search = 400", "warn"),
    ("ALTER DATABASE agents SET zero_damaged_pages = on", "warn"),
]


@pytest.mark.parametrize(("statement", "status"), SETTINGS)
def test_a_setting_of_role_or_database_that_changes_answers_is_told_with_its_reset(
    world: SmallStack, statement: str, status: str
) -> None:
    as_superuser(world, statement)
    told = line(ask(world.access, "settings"), "role-settings")
    assert told.status == status
    as_superuser(world, *commands(told))
    assert line(ask(world.access, "settings"), "role-settings").found == "none"


def test_a_setting_that_sessions_override_is_named_and_no_trouble(world: SmallStack) -> None:
    as_superuser(
        world,
        "ALTER ROLE pgdrill SET DateStyle = 'SQL, DMY'",
        "ALTER DATABASE agents SET application.colour = 'mauve'",
    )
    try:
        found = ask(world.access, "settings")
        assert wrong(found) == {}
        told = line(found, "role-settings").found
        assert (
            "overridden in sessions: DateStyle" in told,
            "left as they are: application.colour" in told,
            "mauve" in told,
        ) == (True, True, False)
    finally:
        as_superuser(
            world,
            "ALTER ROLE pgdrill RESET DateStyle",
            "ALTER DATABASE agents RESET application.colour",
        )


@pytest.mark.parametrize(
    "limit", ["ALTER ROLE pgdrill CONNECTION LIMIT 4", "ALTER DATABASE agents CONNECTION LIMIT 4"]
)
def test_a_limit_of_connections_that_a_drill_would_meet_is_red(
    world: SmallStack, limit: str
) -> None:
    as_superuser(world, limit)  # of which this look holds some
    met = line(ask(world.access, "server"), "connections-left")
    assert (met.status, "limit of 4" in met.found) == ("red", True)
    as_superuser(world, *commands(met))
    assert line(ask(world.access, "server"), "connections-left").status == "green"


def test_a_database_that_does_not_let_in_or_is_not_there_is_red_and_the_others_are_asked(
    world: SmallStack,
) -> None:
    as_superuser(world, "CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    try:
        access = changed(world, server={"databases": ("agents", "closed", "nowhere")})
        closed, nowhere = [one for one in ask(access, "server").lines if one.name == "databases"]
        assert (closed.status, closed.thing) == ("red", "database closed")
        assert "no such database" in nowhere.found
        as_superuser(world, *commands(closed))
        assert (
            wrong(ask(changed(world, server={"databases": ("agents", "closed")}), "server")) == {}
        )
    finally:
        as_superuser(world, "DROP DATABASE closed")


def test_another_server_than_the_configured_one_is_red(world: SmallStack) -> None:
    found = ask(changed(world, server={"system_identifier": 4711}), "server")
    assert wrong(found)["system-identifier"] == "red"
    assert "4711" in line(found, "system-identifier").expected


# --- Folders, programs, tool ---


def test_a_work_directory_that_a_job_can_make_is_green_and_not_made_by_looking(
    world: SmallStack, tmp_path: Path
) -> None:
    folder = tmp_path / "var" / "drills"
    found = ask(changed(world, drill={"work_directory": folder}), "folders", "fence")
    assert wrong(found) == {}
    assert "not there yet" in line(found, "work-directory").found
    assert re.search(r"\d [MG]B free", line(found, "room").found)
    assert not folder.parent.exists()


# where not even root can write
@pytest.mark.parametrize("folder", ["/sys/kernel", "/sys/kernel/pgdrill"])
def test_a_work_directory_that_cannot_be_written_or_made_is_red_with_the_line_that_makes_it(
    world: SmallStack, folder: str
) -> None:
    found = ask(changed(world, drill={"work_directory": Path(folder)}), "folders")
    told = line(found, "work-directory")
    assert (told.status, told.reason) == ("red", "work-directory")
    assert commands(told)[0].startswith("install -d -m 0700 -o ")
    assert line(found, "room").status == "unknown"


def test_a_file_system_without_room_is_red(world: SmallStack) -> None:
    assert (
        line(ask(changed(world, drill={"keep_free_bytes": 2**60}), "folders"), "room").reason
        == "no-space"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folders_of_somebody_else_are_told_with_whose_they_are_and_red_where_root_s_job_would_refuse_them(  # noqa: E501
    world: SmallStack, tmp_path: Path
) -> None:
    for name in ("work/agents", "pgdata/global"):
        (tmp_path / name).mkdir(parents=True)
        os.chown(tmp_path / name, 12345, 12345)
        os.chown((tmp_path / name).parent, 12345, 12345)
    (tmp_path / "pgdata" / "global" / "pg_control").touch()
    access = changed(
        world,
        drill={"work_directory": tmp_path / "work"},
        server={"data_directory": tmp_path / "pgdata"},
    )
    found = ask(access, "folders")
    assert "12345" in line(found, "work-directory").found
    assert commands(line(found, "work-directory")) == [f"chown -R 0 {tmp_path / 'work' / 'agents'}"]
    data = line(found, "data-directory")
    assert (data.status, data.found) == (
        "warn",
        "of user 12345, and readable for root, as whom all of this was asked",
    )
    assert commands(data) == ["runuser -u 12345 -- pgdrill doctor agents"]
    assert "work-directory" not in wrong(ask(access, "folders", jobs=("backup",)))
    assert "data-directory" not in wrong(
        ask(
            changed(world, server={"data_directory": tmp_path / "pgdata"}),
            "folders",
            jobs=("drill",),
        )
    )


def test_a_server_without_page_checksums_is_a_warning_with_the_whole_command() -> None:
    with empty_server() as made:
        made.stop()
        programs = made.binaries
        subprocess.run(
            [
                *as_ordinary_user(),
                programs.path("pg_checksums"),
                "--disable",
                "-D",
                str(made.data_directory),
            ],
            check=True,
            capture_output=True,
        )
        made.start()
        words = {
            "dsn": f"host={made.socket_directory} port=5432 user=postgres dbname=postgres",
            "data_directory": str(made.data_directory),
            "bin_dir": str(programs.folder),
        }
        cluster = {
            "server": words,
            "repository": {"url": f"file://{made.data_directory.parent}/backups"},
        }
        access = Access(
            parse(
                {"clusters": {"agents": cluster}}, made.data_directory.parent / "dr.toml"
            ).cluster("agents")
        )
        told = line(ask(access, "server", jobs=("drill",)), "checksums")
        assert told.status == "warn"
        for command in commands(told)[0].split(" && "):
            subprocess.run(
                [*as_ordinary_user(), *shlex.split(command)], check=True, capture_output=True
            )
        made.start()
        assert line(ask(access, "server", jobs=("drill",)), "checksums").status == "green"


def test_a_folder_that_lies_behind_a_link_is_red(world: SmallStack, tmp_path: Path) -> None:
    world.primary.stop()
    kept = world.primary.data_directory / "pg_serial"
    try:
        kept.rename(tmp_path / "pg_serial")
        kept.symlink_to(tmp_path / "pg_serial")
        world.primary.start()
        assert line(ask(world.access, "folders"), "links").reason == "symbolic-link"
    finally:
        world.primary.stop()
        kept.unlink()
        # as the hint says: the folder itself in the link's place
        shutil.move(tmp_path / "pg_serial", kept)
        world.primary.start()
    assert line(ask(world.access, "folders"), "links").status == "green"


def test_a_data_directory_that_is_elsewhere_is_red_for_backups_alone(
    world: SmallStack, tmp_path: Path
) -> None:
    access = changed(world, server={"data_directory": tmp_path / "elsewhere"})
    assert line(ask(access, "folders"), "data-directory").reason == "no-data-directory"
    assert wrong(ask(access, "folders", "server", jobs=("drill",))) == {}


def test_programs_of_another_place_or_version_are_red(world: SmallStack, tmp_path: Path) -> None:
    found = ask(changed(world, server={"bin_dir": tmp_path}), "folders", "fence")
    assert wrong(found) == {"programs": "red", "major-version": "unknown", "fence": "unknown"}
    other = overlay(world, tmp_path / "other", version="postgres (PostgreSQL) 17.2")
    told = line(ask(changed(world, server={"bin_dir": other}), "folders"), "major-version")
    assert (told.status, told.found) == ("red", "PostgreSQL 17")
    assert told.expected.startswith(str(world.access.binaries.major_version))


def overlay(
    stack: SmallStack, folder: Path, *, version: str = "", share: Path | None = None
) -> Path:
    """The stack's programs in another folder, one of which says something else."""
    folder.mkdir()
    for program in stack.access.binaries.folder.iterdir():
        (folder / program.name).symlink_to(program)
    said = {"postgres": version, "pg_config": f"{share}/lib\n{share}/share" if share else ""}
    for name, words in said.items():
        if words:
            (folder / name).unlink()
            (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{words}\nEND\n")
            (folder / name).chmod(0o755)
    return folder


def test_a_library_that_production_has_and_this_host_lacks_is_red(
    world: SmallStack, tmp_path: Path
) -> None:
    beat(world.access)
    places = world.access.binaries.places
    assert places is not None
    share = tmp_path / "installed"
    shutil.copytree(places[0], share / "lib")
    shutil.copytree(places[1] / "extension", share / "share" / "extension")
    (share / "share" / "extension" / "vector.control").unlink()
    access = changed(world, server={"bin_dir": overlay(world, tmp_path / "bin", share=share)})
    lacks = line(ask(access, "drill"), "libraries")
    assert (lacks.status, lacks.thing) == ("red", "extension vector of database agents")
    # the same package, installed
    shutil.copy(places[1] / "extension" / "vector.control", share / "share" / "extension")
    assert line(ask(access, "drill"), "libraries").status == "green"


def test_contrib_extensions_that_drills_make_and_this_host_lacks_are_red_for_drills_alone(
    world: SmallStack, tmp_path: Path
) -> None:
    places = world.access.binaries.places
    assert places is not None
    share = tmp_path / "installed"
    shutil.copytree(places[1] / "extension", share / "share" / "extension")
    (share / "share" / "extension" / "amcheck.control").unlink()
    access = changed(world, server={"bin_dir": overlay(world, tmp_path / "bin", share=share)})
    lacks = line(ask(access, "drill"), "contrib")
    assert (lacks.status, "no amcheck" in lacks.found) == ("red", True)
    assert line(ask(access, "drill", jobs=("backup",)), "contrib").status == "not asked"
    shutil.copy(places[1] / "extension" / "amcheck.control", share / "share" / "extension")
    assert line(ask(access, "drill"), "contrib").status == "green"


def test_a_tool_that_is_not_there_or_not_of_a_known_version_is_told(
    world: SmallStack, tmp_path: Path
) -> None:
    missing = line(
        ask(
            changed(world, repository={"tool": "wal-g", "binary": str(tmp_path / "wal-g")}), "tool"
        ),
        "tool",
    )
    assert (missing.status, missing.reason) == ("red", "tool-missing")
    commands_of = "\n".join(
        f"{name}  x"
        for name in (
            "backup-push",
            "backup-fetch",
            "backup-mark",
            "wal-push",
            "wal-fetch",
            "delete",
            "st",
        )
    )
    for said, status in (
        ("wal-g version v2.0.1", "red"),
        ("wal-g version v3.0.9", "warn"),
        ("wal-g version v3.0.8", "green"),
    ):
        (tmp_path / "wal-g").write_text(
            f'#!/bin/sh\ncase $1 in --version) echo "{said}";; *) cat'
            f" <<END\n{commands_of}\nEND\nesac\n"
        )
        (tmp_path / "wal-g").chmod(0o755)
        assert (
            line(
                ask(
                    changed(world, repository={"tool": "wal-g", "binary": str(tmp_path / "wal-g")}),
                    "tool",
                ),
                "tool",
            ).status
            == status
        )


def test_a_variable_that_leads_wal_g_elsewhere_and_a_key_that_cannot_be_read_are_told(
    world: SmallStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = changed(world, repository={"tool": "wal-g", "binary": shutil.which("true")})
    monkeypatch.setenv("WALG_S3_PREFIX", "s3://elsewhere/agents")
    monkeypatch.setenv("WALG_LIBSODIUM_KEY_PATH", str(tmp_path / "key"))
    found = [one for one in ask(access, "tool").lines if one.name == "tool-variables"]
    assert [(one.status, one.thing) for one in found] == [
        ("warn", "WALG_S3_PREFIX (environment)"),
        ("red", "WALG_LIBSODIUM_KEY_PATH"),
    ]
    monkeypatch.delenv("WALG_S3_PREFIX")
    (tmp_path / "key").write_text("f" * 32)
    told = line(ask(access, "tool"), "tool-variables")
    assert (told.status, told.found.startswith("encrypted")) == ("green", True)


# --- The bucket ---


class Forbidding(Proxy):
    """Answers 403 to what matches, and passes everything else on."""

    forbidden = "(?!)"

    def note(self, what: str) -> str:
        """By the method and what it asks for."""
        return "403" if re.search(self.forbidden, what) else ""


@pytest.fixture
def policy(world: SmallStack) -> Iterator[Forbidding]:
    with Forbidding(world.s3.endpoint_url, world.s3.bucket) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("forbidden", "name", "right"),
    [
        ("^DELETE|^POST .*delete", "delete", "s3:DeleteObject"),
        ("^PUT", "put", "s3:PutObject"),
        ("^GET pgdrill/doctor-probe", "put", "s3:GetObject"),
        ("list-type", "list", ""),
    ],
)
def test_a_right_that_the_bucket_s_policy_lacks_is_named(
    world: SmallStack, policy: Forbidding, forbidden: str, name: str, right: str
) -> None:
    access = changed(world, repository={"endpoint_url": policy.endpoint_url})
    policy.forbidden = forbidden
    found = ask(access, "bucket")
    lacks = [one for one in found.lines if one.status == "red"]
    assert {one.name for one in lacks} == {name}
    assert all(right in one.hint and one.reason == "storage-refused" for one in lacks)
    if name == "delete":  # a host that only backs up and drills needs none
        assert any(
            command.endswith("--for backup --for drill")
            for one in lacks
            for command in commands(one)
        )
        assert wrong(ask(access, "bucket", jobs=("backup", "drill"))) == {}
    policy.forbidden = "(?!)"
    assert wrong(ask(access, "bucket")) == {}


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_a_pair_of_keys_is_told_before_the_store_is_asked(
    world: SmallStack, name: str
) -> None:
    for half, words in (
        (
            {key: value for key, value in world.s3.environment.items() if key != name},
            f"{name} is not",
        ),
        ({**world.s3.environment, name: ""}, f"{name} is set, and empty"),
    ):
        found = ask(Access(world.cluster, Credentials(world.credentials.postgres, half)), "bucket")
        told = line(found, "keys")
        assert (told.status, words in told.found, name in told.hint) == ("red", True, True)
        assert told.reason == "half-a-key"
        assert line(found, "list").status == "unknown"
        environment = {**half, "PGDRILL_CONFIG": str(world.config_file)}
        shown = CliRunner().invoke(app, ["config", "check"], env=environment)
        assert (shown.exit_code, words in " ".join(shown.output.split())) == (2, True), (
            "nothing is contacted, and it is seen all the same"
        )


def test_no_keys_at_all_are_told_in_words(world: SmallStack) -> None:
    found = ask(Access(world.cluster, Credentials(world.credentials.postgres, {})), "bucket")
    assert "machine's role" in line(found, "keys").found
    told = line(found, "list")
    assert (told.status, told.reason) == ("red", "no-keys")
    assert "AWS_ACCESS_KEY_ID" in told.hint
    assert found.seconds < 60


@pytest.mark.parametrize("tool", ["wal-g"])
def test_a_folder_that_nobody_made_is_not_made_by_looking(
    world: SmallStack, tmp_path: Path, tool: str
) -> None:
    folder = tmp_path / "repository"
    access = changed(
        world, repository={"url": f"file://{folder}", "tool": need(tool), "endpoint_url": ""}
    )
    found = ask(access, "bucket")
    assert not folder.exists()
    subprocess.run(commands(line(found, "list"))[0].split(), check=True)
    assert wrong(ask(access, "bucket")) == {}


# --- The repository ---


def test_another_cluster_s_backup_beside_good_ones_and_none_at_all_are_told(
    world: SmallStack,
) -> None:
    folder = world.s3.folder / world.s3.bucket / "agents"
    file = next(
        one
        for one in folder.rglob("*")
        if one.name == "backup.info" or one.name.endswith("sentinel.json")
    )
    kept = file.read_text()
    with world.connect() as connection:
        (identifier,) = connection.execute(
            "SELECT system_identifier::text FROM pg_control_system()"
        ).fetchone()
    try:
        file.write_text(kept.replace(identifier, "7000000000000000001"))
        found = ask(world.access, "repository")
        told = line(found, "whose-backups")
        assert (told.status, "7000000000000000001" in told.found, identifier in told.expected) == (
            "red",
            True,
            True,
        )
        assert commands(told) == ["pgdrill backup agents"]
        take_backup(world.access)  # as the hint says
        told = line(ask(world.access, "repository"), "whose-backups")
        assert (told.status, [one.split(" --also")[0] for one in commands(told)]) == (
            "warn",
            ["pgdrill prune agents"],
        )
        file.write_text("nonsense")
        assert line(ask(world.access, "repository"), "backups").reason == "metadata-broken"
    finally:
        file.write_text(kept)
    empty = line(
        ask(changed(world, repository={"url": "s3://backups/empty"}), "repository"), "backups"
    )
    assert (empty.status, commands(empty)) == ("warn", ["pgdrill backup agents"])
    assert wrong(ask(world.access, "repository")) == {}


# --- Archiving and clocks ---


def test_an_archive_command_that_fails_is_red_and_green_once_it_works(world: SmallStack) -> None:
    with world.connect() as connection:
        (good,) = connection.execute("SHOW archive_command").fetchone()
        connection.execute("ALTER SYSTEM SET archive_command = 'false'")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE TABLE failing ()")
        connection.execute("SELECT pg_switch_wal()")
        until(
            lambda: (
                connection.execute(
                    "SELECT last_failed_time > coalesce(last_archived_time, '-infinity') FROM"
                    " pg_stat_archiver"
                ).fetchone()
                == (True,)
            )
        )
        quick = changed(world, drill={"rpo_seconds": 0.001})
        found = ask(quick, "archiving")
        assert line(found, "archive-command").reason == "archiving-fails"
        assert line(found, "archive-waiting").status == "red"
        connection.execute(psycopg.sql.SQL("ALTER SYSTEM SET archive_command = {}").format(good))
        connection.execute("SELECT pg_reload_conf()")
        until(
            lambda: (
                connection.execute(
                    "SELECT last_archived_time > last_failed_time FROM pg_stat_archiver"
                ).fetchone()
                == (True,)
            )
        )
    assert wrong(ask(world.access, "archiving")) == {}


def test_keys_that_the_server_s_own_environment_lacks_are_told_with_its_file(
    world: SmallStack,
) -> None:
    server = world.primary
    failing = (
        "SELECT last_failed_time > coalesce(last_archived_time, '-infinity') FROM pg_stat_archiver"
    )
    file = server.data_directory / "environment"
    half = dataclasses.replace(
        server,
        environment={
            name: value
            for name, value in server.environment.items()
            if name != "AWS_SECRET_ACCESS_KEY"
        },
    )
    try:
        server.stop()
        file.touch()
        half.start()
        as_superuser(world, "CREATE TABLE without_keys ()", "SELECT pg_switch_wal()")
        with world.connect() as connection:
            until(lambda: connection.execute(failing).fetchone() == (True,))
        told = line(ask(world.access, "archiving"), "archive-command")
        assert told.reason == "archiving-fails"
        assert f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in {file}" in told.hint
        assert "has no AWS_SECRET_ACCESS_KEY:" in told.hint, "the one that is lacking is named"
        with pytest.raises(CouldNotVerify, match=re.escape(f"AWS_SECRET_ACCESS_KEY in {file}")):
            take_backup(world.access)
        shown = CliRunner().invoke(
            app,
            ["archive-command", "agents", "--environment"],
            env={"PGDRILL_CONFIG": str(world.config_file)},
        )
        assert "AWS_SECRET_ACCESS_KEY" in shown.output, (
            "what the hint names says what belongs there"
        )
    finally:
        file.unlink(missing_ok=True)
        server.stop()
        server.start()
    with world.connect() as connection:
        connection.execute("SELECT pg_switch_wal()")
        until(lambda: connection.execute(failing).fetchone() == (False,))
    assert wrong(ask(world.access, "archiving")) == {}


def test_a_segment_that_was_archived_elsewhere_is_red(world: SmallStack) -> None:
    as_superuser(world, "SELECT pg_switch_wal()")
    assert line(ask(world.access, "archiving"), "archived-here").status == "green"
    told = line(
        ask(changed(world, repository={"url": "s3://backups/other"}), "archiving"), "archived-here"
    )
    assert (
        told.status,
        "not in s3://backups/other" in told.found,
        "pgdrill archive-command" in told.hint,
    ) == ("red", True, True)


def test_large_objects_that_a_dump_may_not_read_are_red_until_the_hint_s_statement(
    world: SmallStack,
) -> None:
    as_superuser(world, "CREATE ROLE app", "SET ROLE app", "SELECT lo_from_bytea(4711, 'x')")
    try:
        told = line(ask(world.access, "rights"), "large-objects")
        assert (told.status, "4711" in told.found, told.thing) == (
            "red",
            True,
            "large objects of database agents",
        )
        assert (
            line(ask(world.access, "rights", jobs=("drill",)), "large-objects").status
            == "not asked"
        )
        as_superuser(world, *commands(told))
        assert line(ask(world.access, "rights"), "large-objects").status == "green"
    finally:
        as_superuser(world, "SELECT lo_unlink(4711)", "DROP ROLE app")


def test_an_archive_timeout_beyond_the_promise_is_told_with_the_statement_that_mends_it(
    world: SmallStack,
) -> None:
    as_superuser(world, "ALTER SYSTEM SET archive_timeout = '0'", "SELECT pg_reload_conf()")
    until(lambda: line(ask(world.access, "archiving"), "archive-timeout").status == "red")
    as_superuser(world, *commands(line(ask(world.access, "archiving"), "archive-timeout"))[:2])
    until(lambda: wrong(ask(world.access, "archiving")) == {})
    assert (
        line(
            ask(changed(world, drill={"rpo_seconds": 50.0}), "archiving"), "archive-timeout"
        ).status
        == "warn"
    )


def until(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for what the server does by itself; it offers no event."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("ahead_seconds", "status"), [(3600.0, "red"), (-3600.0, "red"), (2.0, "green")]
)
def test_a_store_of_another_time_is_red(
    world: SmallStack, ahead_seconds: float, status: str
) -> None:
    class Late(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + ahead_seconds)

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Late) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        found = ask(
            changed(world, repository={"endpoint_url": f"http://127.0.0.1:{server.server_port}"}),
            "clock",
        )
        server.shutdown()
    assert line(found, "store-clock").status == status
    assert line(found, "server-clock").status == "green"


# --- What drills need ---


def test_an_unlabelled_column_is_red_until_the_hint_s_command_labels_it(world: SmallStack) -> None:
    beat(world.access)
    as_superuser(world, "CREATE TABLE bare (id int, v vector(3))")
    try:
        bare = line(ask(world.access, "drill"), "vector-labels")
        assert (bare.status, bare.thing) == ("red", "agents: public.bare.v")
        words = commands(bare)[0].replace("NAME", "made").replace("VERSION", "1").split()
        environment = {
            "PGDRILL_CONFIG": str(world.config_file),
            "PGUSER": "postgres",
            "PGPASSWORD": world.passwords["postgres"],
        }
        assert CliRunner().invoke(app, words[1:], env=environment).exit_code == 0
        assert line(ask(world.access, "drill"), "vector-labels").status == "green"
    finally:
        as_superuser(world, "DROP TABLE bare")


def test_heartbeats_that_nobody_writes_or_has_a_table_for_are_red(world: SmallStack) -> None:
    as_superuser(world, "ALTER TABLE pgdrill_heartbeat RENAME TO kept")
    try:
        missing = line(ask(world.access, "drill"), "heartbeat")
        assert missing.status == "red"
        as_superuser(world, *commands(missing))
        silent = line(ask(world.access, "drill"), "heartbeat")
        assert (silent.status, silent.found) == ("red", "nobody wrote any")
        (words,) = commands(silent)
        assert words == "pgdrill heartbeat agents --every 10"
        environment = {
            "PGDRILL_CONFIG": str(world.config_file),
            "PGUSER": "pgdrill",
            "PGPASSWORD": world.passwords["pgdrill"],
        }
        assert CliRunner().invoke(app, words.split()[1:3], env=environment).exit_code == 0
        assert line(ask(world.access, "drill"), "heartbeat").status == "green"
    finally:
        as_superuser(
            world,
            "DROP TABLE IF EXISTS pgdrill_heartbeat",
            "ALTER TABLE kept RENAME TO pgdrill_heartbeat",
        )


# --- Bounded time ---


def test_a_server_and_a_store_that_hang_cost_seconds(world: SmallStack) -> None:
    # accept, and never answer
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as store,
    ):
        port, endpoint = server.getsockname()[1], f"http://127.0.0.1:{store.getsockname()[1]}"
        access = changed(
            world,
            server={"dsn": f"host=127.0.0.1 port={port} dbname=agents"},
            repository={"endpoint_url": endpoint},
        )
        started = time.monotonic()
        found = ask(
            access, "server", "rights", "archiving", "bucket", "repository", "clock", seconds=30
        )
        assert time.monotonic() - started < 35
        quick = ask(access, "server", seconds=0.5)
    assert (found.count("green"), [one.name for one in found.lines if one.status == "green"]) == (
        1,
        ["keys"],
    )
    assert {line(found, name).status for name in ("login", "list")} == {"red"}
    assert line(found, "store-clock").status == "unknown"
    assert {one.status for one in quick.lines} == {"unknown", "not asked"}
    assert quick.exit_code == 2


def test_lines_are_json_that_programs_can_read(world: SmallStack) -> None:
    found = json.loads(ask(world.access, "server").model_dump_json())
    assert {
        "name",
        "part",
        "status",
        "thing",
        "found",
        "expected",
        "hint",
        "reason",
        "seconds",
    } == set(found["lines"][0])


def test_airflow_itself_tells_of_its_folder_and_connections(
    world: SmallStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("airflow")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv(
        "AIRFLOW_CONN_AGENTS_DB",
        json.dumps({"conn_type": "postgres", "password": "secret-of-a-connection"}),
    )
    monkeypatch.setenv("AIRFLOW_CONN_AGENTS_S3", json.dumps({"conn_type": "http"}))
    (tmp_path / "airflow" / "dags").mkdir(parents=True)
    access = changed(world, server={"conn_id": "agents_db"}, repository={"conn_id": "agents_s3"})
    found = ask(access, "airflow")
    assert "secret-of-a-connection" not in found.model_dump_json()
    assert line(found, "airflow").status == "green"
    kinds = {one.thing: one.status for one in found.lines if one.name == "connections"}
    assert kinds == {"server.conn_id agents_db": "green", "repository.conn_id agents_s3": "red"}
    missing = line(found, "dags")
    assert missing.status == "red"
    subprocess.run(commands(missing)[0], shell=True, check=True)  # noqa: S602 - the hint as a person would follow it
    assert line(ask(access, "airflow"), "dags").status == "green"
    assert {one.name for one in (tmp_path / "airflow").iterdir()} <= {"dags", "logs"}, (
        "looking left a configuration or a database"
    )


# --- A standby, another role for dumps, no archiving at all: after the others, for the server is
# restarted ---


def test_a_standby_in_production_s_place_and_production_in_the_standby_s_are_red(
    world: SmallStack,
) -> None:
    world.start_standby()
    standby = f"host={world.standby.socket_directory} port=5432 dbname=agents"
    try:
        found = ask(changed(world, server={"dsn": standby}), "server")
        assert {line(found, name).status for name in ("primary", "same-files")} == {"red"}
        files = changed(world, server={"data_directory": world.standby.data_directory})
        assert wrong(ask(files, "server")) == {"same-files": "red"}
        assert wrong(ask(changed(world, server={"standby_dsn": standby}), "server")) == {}
        itself = line(
            ask(changed(world, server={"standby_dsn": f"host={world.home} port=5432"}), "server"),
            "standby-login",
        )
        assert (itself.status, itself.found) == ("red", "a primary")
        nobody = line(
            ask(changed(world, server={"standby_dsn": "host=/nowhere port=5432"}), "server"),
            "standby-login",
        )
        assert (nobody.status, nobody.reason) == ("red", "standby-unreachable")
    finally:
        world.standby.stop()
        as_superuser(world, "SELECT pg_drop_replication_slot('standby')")


def test_dumps_that_are_taken_with_a_role_that_is_not_there_are_red_for_dumps_alone(
    world: SmallStack,
) -> None:
    access = changed(world, dump={"dsn": f"host={world.home} port=5432 dbname=agents user=dumper"})
    assert wrong(ask(access, "server")) == {"dump-login": "red"}
    assert wrong(ask(access, "server", jobs=("drill",))) == {}


def test_a_drill_without_a_fence_is_a_warning_or_as_root_refused(world: SmallStack) -> None:
    told = line(ask(changed(world, drill={"fence": "none"}), "fence"), "fence")
    # whose restored server would be another user, who cannot enter root's folders: a drill is
    # refused, too
    if os.geteuid() == 0:
        assert (told.status, told.reason) == ("red", "no-fence")
    else:
        assert (told.status, 'fence = "auto"' in told.hint) == ("warn", True)


def test_a_server_of_another_time_is_red(
    world: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pgdrill.doctor.clock.measure",
        lambda server: measure(server, lambda: datetime.now(UTC) + timedelta(hours=1)),
    )
    told = line(ask(world.access, "clock"), "server-clock")
    assert (told.status, told.found[:28]) == ("red", "3600.0 s behind this host's,")


def test_old_heartbeats_are_red(world: SmallStack) -> None:
    as_superuser(
        world,
        "DELETE FROM pgdrill_heartbeat",
        "INSERT INTO pgdrill_heartbeat VALUES (now() - interval '2 hours')",
    )
    old = line(ask(world.access, "drill"), "heartbeat")
    assert (old.status, old.found) == ("red", "the newest is 2 h old")
    beat(world.access)
    assert line(ask(world.access, "drill"), "heartbeat").status == "green"


def test_a_server_that_archives_nothing_is_red(world: SmallStack) -> None:
    options: dict[str, str] = world.primary.options  # type: ignore[assignment]
    world.primary.stop()
    try:
        options["archive_mode"] = "off"
        world.primary.start()
        off = ask(world.access, "archiving")
        assert line(off, "archive-mode").reason == "archiving-off"
        assert {
            line(off, name).status
            for name in ("archive-timeout", "archive-command", "archive-waiting")
        } == {"unknown"}
    finally:
        options["archive_mode"] = "on"
        world.primary.stop()
        world.primary.start()
    assert line(ask(world.access, "archiving"), "archive-mode").status == "green"
