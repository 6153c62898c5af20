"""A restored server in its fence: what its superuser can do to the host, which is what a stranger's
code could do as well.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from pgdrill.backup import take_backup
from pgdrill.drill import check_stage, destroy_stage, new_drill_id, restore_stage
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import Report
from pgdrill_demo.stack import Stack


@dataclass
class Restored:
    """A restored cluster of the stack's, left running."""

    stack: Stack
    report: Report
    workspace: Workspace

    def connect(self) -> psycopg.Connection:
        return self.workspace.server(self.stack.access).connect("agents")

    def shell(self, script: str) -> str:
        """What a shell prints that its superuser starts."""
        with self.connect() as connection:
            connection.execute("CREATE TEMP TABLE said (line text)")
            connection.execute(
                sql.SQL(
                    "COPY said FROM PROGRAM {} (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')"
                ).format(sql.Literal(f"( {script} ) 2>&1 || true"))
            )
            return "\n".join(
                line for (line,) in connection.execute("SELECT line FROM said").fetchall()
            )


@pytest.fixture(scope="module")
def restored(stack: Stack) -> Iterator[Restored]:
    access, drill_id = stack.access, new_drill_id()
    take_backup(access)
    try:
        report = restore_stage(access, drill_id)
        assert report.restore.status == "ok", report.restore.trouble
        yield Restored(stack, report, Workspace.of(access, drill_id))
    finally:
        destroy_stage(access, drill_id)


def test_the_report_says_which_fence_held(restored: Restored) -> None:
    assert restored.report.fence.startswith("namespaces") or restored.report.fence.startswith(
        "Landlock"
    )


def test_it_can_neither_see_nor_write_production_s_files(restored: Restored) -> None:
    control = restored.stack.primary.data_directory / "global" / "pg_control"
    before = control.read_bytes()
    said = restored.shell(
        f"cat {control} | wc -c; truncate -s 0 {control}; echo x > {control}; ls"
        f" {restored.stack.home}"
    )
    assert len(before) == len(control.read_bytes())
    assert "0" in said.splitlines()
    assert "primary" not in said.splitlines()


def test_it_reaches_neither_production_s_socket_nor_any_port(restored: Restored) -> None:
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, heard), daemon=True).start()
        port = listening.getsockname()[1]
        bin_dir = restored.stack.access.binaries.folder
        said = restored.shell(
            f"{bin_dir}/psql -h {restored.stack.home} -p 5432 -U postgres -c 'SELECT 1';"
            f" {bin_dir}/psql -h 127.0.0.1 -p {port} -c 'SELECT 1'; bash -c 'echo x >"
            f" /dev/tcp/127.0.0.1/{port}'"
        )
    assert not heard
    assert "1 row" not in said


def _accept(listening: socket.socket, heard: list[str]) -> None:
    while True:
        try:
            listening.accept()
        except OSError:
            return
        heard.append("tcp")


def test_a_tablespace_of_production_s_cannot_be_made_there(restored: Restored) -> None:
    place = restored.stack.home / "fastdisk"
    place.mkdir(mode=0o777, exist_ok=True)
    place.chmod(0o777)
    with restored.connect() as connection, pytest.raises(psycopg.Error):
        connection.execute(
            sql.SQL("CREATE TABLESPACE stranger LOCATION {}").format(sql.Literal(str(place)))
        )
    assert not list(place.iterdir())


def test_it_sees_no_process_but_its_own_and_no_variable_of_ours(
    restored: Restored, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = restored.shell(
        "cat /proc/[0-9]*/environ | tr '\\0' '\\n'; env; ls /dev/shm; ls -a ~ /root /home; ls -a"
        " $HOME"
    )
    secrets = [*restored.stack.s3.environment.values(), *restored.stack.passwords.values()]
    assert not [secret for secret in secrets if secret in said]
    assert "PostgreSQL." not in said


def test_a_server_that_only_answers_is_harmless(restored: Restored) -> None:
    report = check_stage(restored.stack.access, restored.report.drill_id, families=["recovery"])
    found = [result for result in report.results if result.name == "harmless"]
    assert [result.status for result in found] == ["pass"], found


def test_a_process_that_it_leaves_running_turns_the_drill_red(restored: Restored) -> None:
    restored.shell("sleep 300 > /dev/null 2>&1 &")
    # other questions than before
    report = check_stage(
        restored.stack.access, restored.report.drill_id, families=["recovery", "schema"]
    )
    found = [result for result in report.results if result.name == "harmless"]
    assert [(result.status, "sleep" in result.thing) for result in found] == [("fail", True)]
