"""The configuration that ``pgdrill init`` writes: a cluster's tables as text, checked as every
configuration is, and without a secret.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgdrill.config import Settings, parse
from pgdrill.errors import ConfigError

EXAMPLE_URL = "s3://example-backups/agents"  # of the file that comes with the project
SECRET_KEYWORDS = (
    "password",
    "sslpassword",
    "scram_client_key",
    "scram_server_key",
    "oauth_client_secret",
)
HEAD = """\
# pgdrill's configuration, written by `pgdrill init`. \
Every other key, its default and its meaning: docs/reference/configuration.md.
# Secrets never stand here: PGPASSWORD or ~/.pgpass, \
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the machine's role),
# and with Airflow its Connections, named by server.conn_id and repository.conn_id.
"""


@dataclass(frozen=True)
class FirstCluster:
    """What is known of a cluster when its configuration is written; empty fields are left to the
    defaults.
    """

    name: str
    dsn: str
    data_directory: Path
    bin_dir: Path
    repository: str
    tool: str
    work_directory: Path
    superuser: str = "postgres"
    system_identifier: int | None = None
    databases: tuple[str, ...] = ()
    found_databases: tuple[str, ...] = ()
    endpoint_url: str = ""
    region: str = ""

    @property
    def tables(self) -> str:
        """Its tables as TOML."""
        server = {
            "dsn": self.dsn,
            "data_directory": str(self.data_directory),
            "bin_dir": str(self.bin_dir),
            "superuser": self.superuser if self.superuser != "postgres" else "",
            "system_identifier": self.system_identifier,
            "databases": list(self.databases),
        }
        repository = {
            "url": self.repository,
            "tool": self.tool,
            "endpoint_url": self.endpoint_url,
            "region": self.region,
        }
        now = (
            ", ".join(map(json.dumps, self.found_databases)) or "not known"
        )  # quoted: a name may hold anything, a line's end too
        every = "" if self.databases else f"# databases: every one, those to come too; now {now}\n"
        return "\n".join(
            (
                f"[clusters.{self.name}.server]\n{_lines(server)}{every}",
                f"[clusters.{self.name}.repository]\n{_lines(repository)}",
                (
                    f"[clusters.{self.name}.drill]\n"
                    f"{_lines({'work_directory': str(self.work_directory)})}"
                ),
            )
        )


def _lines(values: Mapping[str, object]) -> str:
    return "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in values.items()
        if value
    )


def without_secrets(dsn: str) -> tuple[dict[str, str], dict[str, str]]:
    """Part a libpq connection string into what may be written and what may not.

    Nothing of a broken one is repeated.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        words = {
            key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None
        }
    except psycopg.ProgrammingError:
        raise ConfigError(
            "bad-dsn",
            "--dsn",
            found="no libpq connection string",
            expected="host=… port=… user=… dbname=…, or postgresql://…",
            hint="write it as psql takes it, without a password",
        ) from None
    secret = {key: value for key, value in words.items() if key in SECRET_KEYWORDS}
    return {key: value for key, value in words.items() if key not in secret}, secret


def is_example(file: Path) -> bool:
    """Whether the file is the one that comes with the project, whose cluster is nobody's."""
    with contextlib.suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        clusters = tomllib.loads(file.read_text("utf-8")).get("clusters", {})
        return [
            one["repository"]["url"]
            for one in clusters.values()
            if "url" in one.get("repository", {})
        ] == [EXAMPLE_URL]
    return False


def check_name(file: Path, name: str) -> None:
    """Raise where the file has a cluster of that name: what somebody wrote is never written
    over."""
    if not file.exists() or is_example(file):
        return
    try:
        known = tomllib.loads(file.read_text("utf-8")).get("clusters", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            "config-syntax",
            str(file),
            found=f"cannot be read: {error}",
            expected="a configuration to add a cluster to",
            hint="correct it, or name another file with --config",
        ) from error
    if name in known:
        raise ConfigError(
            "cluster-is-there",
            f"cluster {name!r}",
            found=f"a table [clusters.{name}] in {file}",
            expected="a name that is free",
            hint=(
                "give another name, or another file with --config; to change this one,"
                " edit the file"
            ),
        )


def compose(file: Path, cluster: FirstCluster) -> tuple[str, Settings]:
    """Give the file's whole new text and what it means; raise where the new cluster would be wrong
    in it.
    """
    before = (
        file.read_text("utf-8").rstrip("\n") + "\n"
        if file.exists() and not is_example(file)
        else HEAD
    )
    text = f"{before}\n{cluster.tables}"
    settings = parse(tomllib.loads(text), file)
    settings.cluster(cluster.name)
    return text, settings


def keep(file: Path, text: str) -> Path | None:
    """Write the file whole or not at all, with the owner and mode it had.

    Gives where the project's example was put, if it stood there.
    """
    file = file.resolve()  # a link stays one
    aside = file.with_name(f"{file.name}.example") if is_example(file) else None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        temporary = Path(name)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as opened:
                opened.write(text)
            _as_it_was(temporary, file)
            if aside:
                os.link(file, aside)  # an error if there is one: nothing is written over
            if file.exists():
                temporary.replace(file)
            else:
                os.link(temporary, file)  # an error if somebody else was first
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            "config-unwritable",
            str(file),
            found=f"{error.strerror}",
            expected="a file that this user can write",
            hint="name another file with --config, and tell the jobs by PGDRILL_CONFIG",
        ) from error
    return aside


def _as_it_was(temporary: Path, file: Path) -> None:
    """The mode, and for root the owner, of the file, or of the folder it is new in."""
    old = file.stat() if file.exists() else None
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(old.st_mode & 0o777 if old else 0o666 & ~mask)
    if os.geteuid() == 0:
        owner = old or file.parent.stat()
        os.chown(temporary, owner.st_uid, owner.st_gid)
