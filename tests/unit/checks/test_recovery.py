"""What the recovery family reads: a server's log and configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgdrill.checks.recovery.libraries import split
from pgdrill.checks.recovery.log import alarming
from pgdrill.postgres.recovery_settings import settings_in

PREFIX = "2026-11-24 08:45:01.123 UTC [4711] "


@pytest.mark.parametrize(
    "line",
    [
        "PANIC:  could not locate a valid checkpoint record at 0/2000028",
        "FATAL:  recovery ended before configured recovery target was reached",
        'FATAL:  could not access file "pg_cron": No such file or directory',
        "WARNING:  page verification failed, calculated checksum 1 but expected 2",
        'ERROR:  invalid page in block 7 of relation "base/16384/16999"',
        (
            "LOG:  could not read from WAL segment 000000010000000000000003, LSN 0/3000000, offset"
            " 0: read 0 of 8192"
        ),
        'ERROR:  could not open file "base/5/16744": No such file or directory',
        "LOG:  client backend (PID 77) was terminated by signal 9: Killed",
        "FATAL:  incorrect checksum in control file",
    ],
)
def test_lines_of_damage_and_of_a_dying_server_are_alarming(tmp_path: Path, line: str) -> None:
    (tmp_path / "log").write_text(f"{PREFIX}{line}\n" * 3)
    assert alarming(tmp_path / "log") == {line.replace(":  ", ": "): 3}


@pytest.mark.parametrize(
    "line",
    [
        PREFIX + "FATAL:  the database system is starting up",
        PREFIX + "FATAL:  the database system is not yet accepting connections",
        PREFIX + "FATAL:  the database system is not accepting connections",
        PREFIX + "FATAL:  terminating connection due to administrator command",
        PREFIX + 'FATAL:  database "nowhere" does not exist',
        PREFIX + "LOG:  database system was interrupted; last known up at 2026-11-24 08:44:00 UTC",
        PREFIX
        + "LOG:  starting backup recovery with redo LSN 0/2000028, checkpoint LSN 0/2000080, on"
        " timeline ID 1",
        PREFIX
        + "LOG:  recovery stopping before commit of transaction 745, time 2026-11-24 08:44:00 UTC",
        PREFIX + "LOG:  invalid record length at 0/3000060: expected at least 24, got 0",
        PREFIX + "ERROR:  canceling statement due to statement timeout",
        "ERROR: 2026/11/24 08:45:01.123 Archive '00000002.history' does not exist.",
        "FATAL: could not read the store, says the tool that fetches WAL; wal.sh makes 255 of it",
        PREFIX + "DETAIL:  could not read is no more than a detail of the line before",
    ],
)
def test_what_a_good_restore_writes_is_not(tmp_path: Path, line: str) -> None:
    (tmp_path / "log").write_text(f"{PREFIX}LOG:  starting PostgreSQL 18.6\n{line}\n")
    assert alarming(tmp_path / "log") == {}


def test_a_log_in_which_the_server_wrote_nothing_is_none(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "ERROR: 2026/11/24 08:45:01.123 Archive '00000002.history' does not exist.\n"
    )
    assert alarming(tmp_path / "log") is None


def test_configuration_lines_are_read_as_postgresql_does(tmp_path: Path) -> None:
    file = tmp_path / "postgresql.auto.conf"
    file.write_text(
        "# Do not edit\nwork_mem = '1MB'\nrecovery_target_name 'it''s'\nRECOVERY_TARGET_XID=7 #"
        " why\n hot_standby = false\nprimary_conninfo = 'host=x password=y'\nrestore_command ="
        " ''\nrecovery_target_time = '1'\nrecovery_target_time = '2'\n"
    )
    assert settings_in(file) == {
        "recovery_target_name": "it's",
        "recovery_target_xid": "7",
        "hot_standby": "off",
        "primary_conninfo": "set",
        "restore_command": "",
        "recovery_target_time": "2",
    }
    assert settings_in(tmp_path / "none") == {}


def test_lists_of_libraries_may_be_quoted_and_spaced() -> None:
    assert split(' pg_stat_statements, "$libdir/auto_explain" ,') == [
        "pg_stat_statements",
        "$libdir/auto_explain",
    ]
    assert split("") == []
