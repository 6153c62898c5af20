"""A host as a newcomer has it: Debian's PostgreSQL in Debian's layout, a bucket, and a user who is
not root.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pgdrill_demo.s3 import S3Server
from tests.conftest import MEMORY
from tests.way_in.readme import PROJECT

VERSION = "15"  # Debian 12's
PROGRAMS = Path(f"/usr/lib/postgresql/{VERSION}/bin")
NEEDED = ("pg_createcluster", "pg_ctlcluster", "git", "bash")
ORDINARY = "daemon"  # where the tests run as root
SECONDS = 300


def skip_unless_debian() -> None:
    """Skip with words where this is no such host."""
    lacking = [name for name in NEEDED if not shutil.which(name)]
    if lacking or not (PROGRAMS / "postgres").exists():
        pytest.skip(
            f"Debian's PostgreSQL {VERSION} (postgresql-{VERSION}, postgresql-common) is not"
            f" installed here; lacking: {', '.join(lacking) or PROGRAMS}"
        )


@dataclass
class Done:
    """What a command left."""

    code: int
    stdout: str
    stderr: str

    @property
    def problem(self) -> dict[str, str]:
        """The error that a command told as JSON."""
        return dict(json.loads(self.stdout)["error"])


@dataclass
class Site:
    """One host below ``home``; every command runs as ``user``, in one shell that remembers folder
    and variables.
    """

    home: Path
    password: str = "It's:a \\ pass-word"  # characters that each place has to escape in its own way
    user: str = field(
        default_factory=lambda: (
            ORDINARY if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        )
    )
    s3: S3Server = field(init=False)

    def __post_init__(self) -> None:
        self.s3 = S3Server(self.home / "store" / "s3")

    @property
    def data(self) -> Path:
        """PGDATA, in which no configuration lies."""
        return self.home / "data"

    @property
    def work(self) -> Path:
        """Where drills work, in a folder that is root's."""
        return self.home / "var" / "pgdrill"

    @property
    def config(self) -> Path:
        """The newcomer's dr.toml."""
        return self.home / "pgdrill" / "include" / "dr.toml"

    def make(self) -> None:
        """A running cluster with a database, and an empty bucket; the sources as they would be
        cloned.
        """
        self.home.chmod(0o755)
        for folder in ("etc", "sock", "user", "source", "store", "var"):
            (self.home / folder).mkdir()
        listed = subprocess.run(
            ["git", "-C", PROJECT, "ls-files", "-coz", "--exclude-standard"],
            capture_output=True,
            check=True,
        ).stdout
        for name in filter(None, listed.decode().split("\0")):
            if (PROJECT / name).is_file():
                target = self.home / "source" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, target)
        (self.home / "pgdrill-program").write_text(self._program())
        (self.home / "pgdrill-program").chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(self.home, self.user)
            for folder in ("etc", "sock", "user"):
                shutil.chown(self.home / folder, self.user)
        else:
            (self.home / "var").chmod(0o555)  # as root's are
        self.s3.start()
        (self.home / "state").write_text("")
        if os.geteuid() == 0:
            shutil.chown(self.home / "state", self.user)
        where = f"-d {self.data} -s {self.home}/sock -l {self.home}/log"
        self.good(
            f"pg_createcluster {VERSION} main {where} -- --no-sync && pg_ctlcluster {VERSION} main"
            " start && createdb agents"
        )
        self.good(
            "psql -q agents -c 'CREATE TABLE items AS SELECT n AS id, md5(n::text) AS word FROM"
            " generate_series(1, 5000) n'"
        )

    def _program(self) -> str:
        """What `make setup` makes of the sources, with the packages that the tests run with."""
        python, packages = sys.executable, ""
        if self._as(python, "-c", "pass").code:  # root's own Python
            python = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
            packages = sysconfig.get_path("purelib")
        path = f"{self.home}/pgdrill/include:{packages}".rstrip(":")
        if self._as("env", f"PYTHONPATH={packages}", python, "-c", "import psycopg, obstore").code:
            pytest.skip(f"{self.user} has no Python that can use the packages of {sys.prefix}")
        return (
            f'#!/bin/sh\nexport PYTHONPATH={path}\nexec {python} -c "from pgdrill.cli import main;'
            ' main()" "$@"\n'
        )

    def _as(self, *words: str) -> Done:
        """A command as the site's user, without its shell."""
        switch = (
            ("/usr/sbin/runuser", "-u", self.user, "--", "env", f"HOME={self.home}/user")
            if os.geteuid() == 0
            else ()
        )
        try:
            done = subprocess.run(
                [*switch, *words],
                capture_output=True,
                text=True,
                env=self.environment,
                cwd="/",
                timeout=SECONDS,
                check=False,
            )
        except PermissionError:
            return Done(126, "", "")
        return Done(done.returncode, done.stdout, done.stderr)

    @property
    def environment(self) -> dict[str, str]:
        """A login's: Debian's programs, and the tool where it is installed; nothing of whoever runs
        the tests.
        """
        tool = Path(shutil.which("wal-g") or "/usr/local/bin/wal-g").parent
        return {
            "PATH": f"{tool}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home / "user"),
            "LANG": "C.UTF-8",
            "TMPDIR": tempfile.gettempdir() if os.geteuid() else "/tmp",
            "PG_CLUSTER_CONF_ROOT": str(self.home / "etc"),
            "PGCLUSTER": f"{VERSION}/main",
        }

    def run(self, script: str) -> Done:
        """Lines in the user's shell."""
        state = self.home / "state"
        remembers = (
            f"cd {self.home}/user && . {state}\n{script}\n"
            + f"{{ echo \"cd '$PWD'\"; declare -px; }} > {state}"
        )
        return self._as("bash", "-e", "-u", "-o", "pipefail", "-c", remembers)

    def good(self, script: str) -> str:
        """Lines that have to work; what they printed."""
        done = self.run(script)
        assert done.code == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def as_root(self, script: str) -> None:
        """What a newcomer asks an administrator for; without one here, in a folder that was closed
        for it.
        """
        if os.geteuid() == 0:
            subprocess.run(["bash", "-euc", script], check=True, env=self.environment)
            return
        (self.home / "var").chmod(0o755)
        self.good(script)
        (self.home / "var").chmod(0o555)

    def sql(self, statement: str) -> str:
        """A superuser's, by peer authentication."""
        return self.good(f"psql -qAt agents <<'SQL'\n{statement}\nSQL").strip()

    def edit(self, changes: dict[str, str]) -> None:
        """Lines of dr.toml, each of which has to be there."""
        text = self.config.read_text()
        for before, after in changes.items():
            assert before in text, before
            text = text.replace(before, after)
        self.config.write_text(text)

    def remove(self) -> None:
        """Everything ends and goes."""
        self.run(f"pg_ctlcluster {VERSION} main stop -m immediate")
        self.s3.stop()
        if os.geteuid():
            (self.home / "var").chmod(0o755)
        shutil.rmtree(self.home, ignore_errors=True)


def new_site() -> Site:
    """A host that is not made yet, in a short folder that its user may enter."""
    folder = str(MEMORY) if os.geteuid() == 0 and MEMORY.is_dir() else None
    return Site(Path(tempfile.mkdtemp(prefix="pgt-", dir=folder)))
