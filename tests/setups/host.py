"""A host with a production of its own, on which the real commands are run as an operator runs
them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill_demo.stack import DATABASE
from tests.integration.worlds import SCHEMA, World
from tests.kept import ROOT
from tests.setups.programs import programs
from tests.setups.setup import Setup

USUAL_PORT = 5432
BARE_PATH = "/usr/bin:/bin"
SECONDS = 600  # for a command, on a machine that has other work
WITHOUT_VECTORS = (
    "CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs SELECT i, md5(i::text)"
    " FROM generate_series(1, 400) i"
)
MINE = ("PG", "AWS_", "WALG_", "AIRFLOW", "RCLONE", "BOTO")  # variables of whoever runs the tests
# a server has its own: where, and how, it archives
OF_THE_WORKER = ("WALG_S3_PREFIX", "WALG_COMPRESSION_METHOD")


@dataclass(frozen=True)
class Done:
    """What a command left. ``said`` is its JSON, or nothing where it printed none."""

    code: int
    said: dict[str, Any]
    stderr: str


class Host(World):
    """The small production of a set-up."""

    setup: Setup
    endpoint_url = ""  # another than the store's own
    closing: contextlib.ExitStack
    filled_up = False

    @cached_property
    def primary(self) -> LocalServer:
        return replace(super().primary, port=self.setup.port)

    def conninfo(self, user: str = "postgres", database: str = DATABASE) -> str:
        """While the cluster is made, its server is at the usual port."""
        port = self.setup.port if "primary" in vars(self) else USUAL_PORT
        return make_conninfo(super().conninfo(user, database), port=port)

    @property
    def vectors(self) -> bool:
        """Debian's PostgreSQL 15 has none."""
        return self.setup.postgres != "15"

    def write_config(self) -> None:
        where = {
            "url": f"s3://{self.s3.bucket}/agents",
            "tool": self.tool,
            "compression": "lz4",
            "endpoint_url": self.endpoint_url or self.s3.endpoint_url,
        }
        server = {
            "dsn": make_conninfo("", host=str(self.home), port=self.setup.port, dbname="agents"),
            "data_directory": f"{self.home}/primary",
            "bin_dir": f"{self.programs.folder}",
        }
        drill = {"work_directory": f"{self.home}/drills", "durability": "fast"}
        sections: dict[str, dict[str, Any]] = {
            "server": server,
            "repository": where,
            "drill": drill,
        }
        for name, values in (
            *self.setup.config.items(),
            *(self.setup.mistakes.items() if self.filled_up else ()),
        ):
            sections[name] = {**sections.get(name, {}), **values}
        lines = ["[clusters.agents]"]
        for name, values in sections.items():
            lines += [
                f"[clusters.agents.{name}]",
                *(
                    f"{key} = {self.filled(json.dumps(value, ensure_ascii=False))}"
                    for key, value in values.items()
                ),
            ]
        self.config_file.write_text("\n".join(lines) + "\n")

    def filled(self, text: str) -> str:
        """With this host's own names in it."""
        known = {"home": self.home, "address": self.address, "include": ROOT / "include"}
        for name, value in known.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    def _initdb(self) -> None:
        password = self.home / "superuser.password"
        password.touch(mode=0o600)
        password.write_text(self.passwords["postgres"])
        words = [
            *as_ordinary_user(),
            self.programs.path("initdb"),
            "-D",
            str(self.home / "primary"),
            "-U",
            "postgres",
            "--pwfile",
            str(password),
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            *self.setup.initdb,
        ]
        subprocess.run(words, check=True, capture_output=True, env={**os.environ, "LC_ALL": "C"})
        password.unlink()

    def prepare(self) -> None:
        """What has to be so before the first start: the set-up's settings, and the tool's variables
        for archiving.
        """
        options: dict[str, str] = self.primary.options  # type: ignore[assignment]
        options |= {"shared_buffers": "32MB", **self.setup.options}
        variables: dict[str, str] = self.primary.environment  # type: ignore[assignment]
        variables |= {
            name: self.filled(value)
            for name, value in self.setup.environment.items()
            if value and name.startswith("WALG_") and name not in OF_THE_WORKER
        }
        self.user_home.mkdir()
        self.setup.before(self)

    def fill(self) -> None:
        """Rows, and what the set-up has besides."""
        with self.connect() as connection:
            connection.execute(SCHEMA if self.vectors else WITHOUT_VECTORS)  # type: ignore[call-overload]
            for statement in self.setup.sql:
                connection.execute(statement)  # type: ignore[call-overload]
        self.setup.after(self)
        self.filled_up = True
        if self.setup.mistakes:
            self.write_config()

    @property
    def address(self) -> str:
        """Of the loopback network, and nobody else's."""
        number = zlib.crc32(str(self.home).encode())
        return f"127.{64 + number % 128}.{number >> 8 & 255}.{1 + number % 250}"

    @property
    def user_home(self) -> Path:
        """The home folder of whoever runs the commands."""
        return self.home / "user"

    @property
    def variables(self) -> dict[str, str]:
        """All that the commands see."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(MINE)}
        own["HOME"] = str(self.user_home)
        if self.setup.bare:
            own = {"PATH": BARE_PATH}
        own |= {
            "PGDRILL_CONFIG": str(self.config_file),
            "PGUSER": "pgdrill",
            "PGPASSWORD": self.passwords["pgdrill"],
            "PYTHONPATH": f"{ROOT / 'include'}",
            **self.s3.environment,
        }
        for name, value in self.setup.environment.items():
            own.pop(name, "")
            if value is not None:
                own[name] = self.filled(value)
        return own

    def pgdrill(self, *words: str) -> Done:
        """The real command, with ``--json``."""
        within = [self.filled(word) for word in self.setup.within]
        program = [sys.executable, "-c", "from pgdrill.cli import main; main()"]
        command = [*within, *program, *words, "--json"]
        done = subprocess.run(
            command,
            env=self.variables,
            cwd=self.user_home,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        try:
            said = json.loads(done.stdout)
        except ValueError:
            said = {}
        return Done(done.returncode, said, done.stderr)

    def superuser(self, *statements: str, database: str = "postgres") -> None:
        """Run statements, however the server is set."""
        with self.connect(database) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]


@contextlib.contextmanager
def host(setup: Setup) -> Iterator[Host]:
    """A running one, made for that set-up and removed afterwards."""
    found = programs(setup.postgres)
    if found is None:
        raise FileNotFoundError(f"PostgreSQL {setup.postgres} is not here")
    above = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    made = Host(
        above / setup.folder if setup.folder else above,
        tool=setup.tool,
        programs=found,
        segment_bytes=setup.segment_megabytes * 2**20,
    )
    made.setup, made.closing = setup, contextlib.ExitStack()
    try:
        made.create(sample=False)
        made.prepare()
        made.start()
        made.fill()
        yield made
    finally:
        made.closing.close()
        made.remove()
        shutil.rmtree(above, ignore_errors=True)
