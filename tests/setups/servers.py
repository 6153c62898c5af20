"""Servers and how they lie on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from tests.integration.doctor.test_doctor import until
from tests.setups.debian import is_here
from tests.setups.host import Host
from tests.setups.setup import Answer, Setup

FAMILY = "server and layout"


def _outside(made: Host) -> None:
    """As Debian lays them out: nothing that an administrator writes lies in PGDATA."""
    data, etc = made.home / "primary", made.home / "etc"
    etc.mkdir()
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        shutil.move(data / name, etc / name)
    options: dict[str, str] = made.primary.options  # type: ignore[assignment]
    options |= {
        "config_file": f"{etc}/postgresql.conf",
        "hba_file": f"{etc}/pg_hba.conf",
        "ident_file": f"{etc}/pg_ident.conf",
    }


def _behind_a_link(name: str) -> Callable[[Host], None]:
    def move(made: Host) -> None:
        kept = made.home / "primary" / name
        shutil.move(kept, made.home / "elsewhere")
        kept.symlink_to(made.home / "elsewhere")

    return move


def _tablespace(made: Host) -> None:
    made.home.joinpath("disk").mkdir(mode=0o700)
    made.superuser(
        f"CREATE TABLESPACE disk LOCATION '{made.home}/disk'",
        "CREATE TABLE far (id int PRIMARY KEY) TABLESPACE disk",
        "INSERT INTO far SELECT generate_series(1, 500)",
        database="agents",
    )


def _fails(made: Host) -> None:
    made.superuser("SELECT pg_switch_wal()")
    _noted(made, "last_failed_wal")


def _noted(made: Host, what: str) -> None:
    with made.connect() as connection:
        until(
            lambda: connection.execute(f"SELECT {what} FROM pg_stat_archiver").fetchone() != (None,)
        )  # type: ignore[call-overload]


def _archived(made: Host) -> None:
    """By the server's word."""
    made.superuser("SELECT pg_switch_wal()")
    _noted(made, "last_archived_wal")


def _slots(made: Host) -> None:
    made.superuser(
        *(
            f"SELECT pg_create_logical_replication_slot('slot_{number}', 'pgoutput')"
            for number in range(12)
        ),
        "CREATE PUBLICATION everything FOR ALL TABLES",
        database="agents",
    )


def _linked(made: Host) -> None:
    (made.home / "disk").mkdir(mode=0o700)
    (made.home / "w").symlink_to(made.home / "disk")
    (made.home / "pgdata").symlink_to(made.home / "primary")


def _elsewhere(made: Host) -> None:
    made.primary.options["archive_library"] = "basic_archive"  # type: ignore[index]
    made.primary.options["archive_command"] = ""  # type: ignore[index]
    made.primary.options["basic_archive.archive_directory"] = str(made.home / "archive")  # type: ignore[index]
    (made.home / "archive").mkdir(mode=0o700)


def work(folder: str) -> dict[str, dict[str, object]]:
    return {"drill": {"work_directory": folder}}


SEALED = "/sys/kernel"  # where not even root can write
SETUPS = (
    *(
        Setup(FAMILY, "as it is installed", tool, version, dump=True)
        for version in ("15", "18")
        for tool in ("wal-g", "barman-cloud")
    ),
    Setup(FAMILY, "configuration outside PGDATA, as Debian has it", postgres="15", before=_outside),
    Setup(
        FAMILY,
        "configuration outside PGDATA, as Debian has it",
        "barman-cloud",
        postgres="15",
        before=_outside,
    ),
    Setup(
        FAMILY,
        "pg_createcluster, by the README, as an ordinary user, with ~/.pgpass",
        postgres="15",
        debian="password",
        here=is_here,
    ),
    Setup(
        FAMILY,
        "pg_createcluster, by the README, as an ordinary user, peer with a map of pg_ident.conf",
        postgres="15",
        debian="peer",
        here=is_here,
    ),
    Setup(FAMILY, "pg_wal behind a link", before=_behind_a_link("pg_wal")),
    Setup(FAMILY, "pg_wal behind a link", "barman-cloud", before=_behind_a_link("pg_wal")),
    Setup(FAMILY, "a tablespace on another disk", after=_tablespace),
    Setup(FAMILY, "a tablespace on another disk", "barman-cloud", after=_tablespace),
    Setup(
        FAMILY,
        "pg_serial behind a link",
        before=_behind_a_link("pg_serial"),
        red=("links",),
        answer=Answer("backup", "symbolic-link", "pg_serial", "link"),
    ),
    *(
        Setup(
            FAMILY,
            f"WAL segments of {size} MB",
            tool,
            initdb=(f"--wal-segsize={size}",),
            segment_megabytes=size,
        )
        for size, tool in ((1, "wal-g"), (64, "wal-g"), (64, "barman-cloud"))
    ),
    Setup(FAMILY, "no data checksums", initdb=("--no-data-checksums",), warns=("checksums",)),
    Setup(
        FAMILY,
        "the builtin locale provider",
        initdb=("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    ),
    Setup(
        FAMILY,
        "the ICU locale provider",
        postgres="15",
        initdb=("--locale-provider=icu", "--icu-locale=de-DE"),
    ),
    Setup(
        FAMILY,
        "wal_level logical with twelve slots and a publication",
        options={"wal_level": "logical", "max_replication_slots": "20"},
        after=_slots,
    ),
    Setup(FAMILY, "archive_mode always", options={"archive_mode": "always"}),
    Setup(
        FAMILY,
        "archive_mode off",
        options={"archive_mode": "off"},
        red=("archive-mode",),
        answer=Answer("backup", "archiving-off", "archive_mode=off", "pgdrill archive-command"),
    ),
    Setup(
        FAMILY,
        "an empty archive_command",
        options={"archive_command": ""},
        red=("archive-mode",),
        answer=Answer(
            "backup", "archiving-off", "archive_command=empty", "pgdrill archive-command"
        ),
    ),
    Setup(
        FAMILY,
        "an archive_command that fails",
        options={"archive_command": "false"},
        after=_fails,
        red=("archive-command",),
        answer=Answer("backup", "archiving-fails", "failed", "log"),
    ),
    Setup(
        FAMILY,
        "an archive_command that throws everything away",
        options={"archive_command": "true"},
        after=_archived,
        red=("archived-here",),
        config={"backup": {"archive_wait_seconds": 15}},
        answer=Answer("backup", "not-archived", "0000", "archive_command"),
    ),
    Setup(
        FAMILY,
        "an archive_library that archives elsewhere",
        before=_elsewhere,
        after=_archived,
        red=("archived-here",),
        config={"backup": {"archive_wait_seconds": 15}},
        answer=Answer("backup", "not-archived", "0000", "archive_command"),
    ),
    Setup(
        FAMILY,
        "no archive_timeout",
        options={"archive_timeout": "0"},
        red=("archive-timeout",),
        why=(
            "the jobs switch segments themselves; what is promised of the newest writes cannot be"
            " kept"
        ),
    ),
    Setup(
        FAMILY,
        "work_directory that nobody has made, where it can be",
        config=work("{home}/var/lib/drills"),
    ),
    Setup(
        FAMILY,
        "work_directory that nobody can make",
        config=work(f"{SEALED}/pgdrill"),
        red=("work-directory",),
        answer=Answer("backup", "work-directory", "no such folder", "install -d"),
    ),
    Setup(
        FAMILY,
        "work_directory and PGDATA behind links",
        before=_linked,
        config={
            "drill": {"work_directory": "{home}/w"},
            "server": {"data_directory": "{home}/pgdata"},
        },
    ),
    Setup(
        FAMILY,
        "work_directory that is read-only",
        config=work(SEALED),
        red=("work-directory",),
        answer=Answer("backup", "work-directory", "nothing can be written", "install -d"),
    ),
    Setup(
        FAMILY,
        "too little room for a drill",
        config={"drill": {"keep_free_bytes": 2**60}},
        red=("room",),
        answer=Answer("drill", "no-space", "free", "work_directory"),
    ),
    Setup(
        FAMILY,
        "PGDATA that is not there",
        config={"server": {"data_directory": "{home}/nowhere"}},
        red=("data-directory",),
        answer=Answer("backup", "no-data-directory", "nowhere", "data directory"),
    ),
    Setup(
        FAMILY,
        "an installation of another server's files (PGDATA of a standby)",
        after=Host.start_standby,
        config={"server": {"data_directory": "{home}/standby"}},
        red=("same-files",),
        answer=Answer("backup", "wrong-server", "standby", "server.data_directory"),
    ),
)
