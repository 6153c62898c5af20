"""``pgdrill init``: a first configuration, found out from the server and this host, asked for where
neither tells.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgdrill.cli.app import (
    ConfigOption,
    Exit,
    Session,
    command,
    explain,
    out,
    say,
    session_of,
    warn_renamed,
)
from pgdrill.tool_facts import DEFAULT_TOOL, TOOLS, misfit

if TYPE_CHECKING:
    from pgdrill.access import Credentials
    from pgdrill.cli.first_config import FirstCluster
    from pgdrill.postgres.self_description import SelfDescription

NEWEST_MAJOR = 18  # taken where no server tells
SYSTEM_PLACE = Path("/var/lib/pgdrill")


if TYPE_CHECKING:
    Tool = str
else:  # what the registry holds is known when this runs
    Tool = StrEnum("Tool", {name.upper(): name for name in TOOLS})


@dataclass(frozen=True)
class Given:
    """What a person gave as options; empty is to be found out."""

    dsn: str | None
    repository: str | None
    cluster: str
    tool: Tool | None
    data_directory: Path | None
    bin_dir: Path | None
    work_directory: Path | None
    databases: tuple[str, ...]
    endpoint_url: str
    yes: bool

    def asked(self, words: str, found: str) -> str:
        """Ask for what is not sure, with what was found as the answer that Enter gives; with --yes
        take that.
        """
        return found if self.yes else str(typer.prompt(words, default=found, err=True)).strip()


@command
def init(
    context: typer.Context,
    cluster: Annotated[
        str, typer.Argument(metavar="CLUSTER", help="its new name; default: the database's name")
    ] = "",
    dsn: Annotated[
        str | None,
        typer.Option(
            "--dsn",
            metavar="DSN",
            help=(
                "libpq connection string of the server, best without password; empty: by the PG..."
                " variables"
            ),
        ),
    ] = None,
    repository: Annotated[
        str | None,
        typer.Option(
            "--repository",
            metavar="URL",
            help="s3://bucket/prefix, or file:///folder (not barman-cloud)",
        ),
    ] = None,
    tool: Annotated[
        Tool | None,
        typer.Option("--tool", help=f"default: the first of {', '.join(TOOLS)} that is found"),
    ] = None,
    data_directory: Annotated[
        Path | None,
        typer.Option("--data-directory", metavar="DIR", help="default: as the server tells"),
    ] = None,
    bin_dir: Annotated[
        Path | None,
        typer.Option(
            "--bin-dir",
            metavar="DIR",
            help="PostgreSQL's programs; default: looked for on this host",
        ),
    ] = None,
    work_directory: Annotated[
        Path | None,
        typer.Option(
            "--work-directory",
            metavar="DIR",
            help=(
                "where drills restore; default: /var/lib/pgdrill, or below the home of a user who"
                " may not make it"
            ),
        ),
    ] = None,
    database: Annotated[
        list[str] | None,
        typer.Option(
            "--database",
            metavar="NAME",
            help="check only this database (repeatable); default: every one",
        ),
    ] = None,
    endpoint_url: Annotated[
        str,
        typer.Option(
            "--endpoint-url",
            metavar="URL",
            help="of an S3 store other than AWS; default: $AWS_ENDPOINT_URL",
        ),
    ] = "",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="ask nothing: take what was given and found out")
    ] = False,
    config: ConfigOption = None,
    old_cluster: Annotated[str, typer.Option("--cluster", hidden=True)] = "",
) -> int:
    """Write a configuration that works, found out from the server and this host, and let doctor
    look at it.

    Run it beside the data directory, as the user that owns it. A file that is there gets one more
    cluster; a cluster that is there is never changed. No secret is written.
    """
    if old_cluster:
        warn_renamed("--cluster", "the argument CLUSTER")
    given = Given(
        dsn,
        repository,
        cluster or old_cluster,
        tool,
        data_directory,
        bin_dir,
        work_directory,
        tuple(database or ()),
        endpoint_url,
        yes,
    )
    return _init(session_of(context, config), given)


def _init(session: Session, given: Given) -> int:
    from pgdrill.access import Access, Credentials
    from pgdrill.cli.first_config import check_name, compose, keep, without_secrets
    from pgdrill.config import config_path
    from pgdrill.doctor import diagnose
    from pgdrill.doctor.render import print_diagnosis

    file = _file(session)
    if given.cluster:
        check_name(file, given.cluster)  # before anything is asked
    dsn = (
        given.dsn
        if given.dsn is not None
        else given.asked("libpq connection string of the server, without password", "")
    )
    words, secret = without_secrets(dsn)
    credentials = Credentials(postgres=secret)
    told = _ask_server(words, credentials)
    made = _cluster(given, words, told)
    check_name(file, made.name)
    text, settings = compose(file, made)
    if not given.yes:
        say(f"\n{made.tables}", err=True)
        typer.confirm(f"Write this to {file}?", default=True, abort=True, err=True)
    aside = keep(file, text)
    say(
        f"Wrote cluster {made.name} to {file}."
        + (f" The example that stood there is now {aside}." if aside else "")
    )
    if secret:
        _tell_of_secret(made, told)
    if file.resolve() != config_path().resolve():
        say(f"For every other command: export PGDRILL_CONFIG={file.absolute()}")
    say("What the jobs will meet here (pgdrill doctor asks this again):\n")
    print_diagnosis(diagnose(Access(settings.cluster(made.name), credentials)), out())
    return Exit.GOOD


def _file(session: Session) -> Path:
    """Where the configuration is or will be: as named, where it is found by itself, else in this
    folder.
    """
    from pgdrill.config import CONFIG_VARIABLE, config_path

    if session.config:
        return session.config
    found = config_path()
    named = os.environ.get(CONFIG_VARIABLE) or os.environ.get("AIRFLOW_HOME")
    return found if named or found.exists() else Path("dr.toml")


def _ask_server(words: dict[str, str], credentials: Credentials) -> SelfDescription | None:
    """Ask the server of itself; one that does not answer is told with its hint, and the rest goes
    on without it.
    """
    from psycopg.conninfo import make_conninfo

    from pgdrill.access import Access
    from pgdrill.config import Cluster, RepositorySettings, Server
    from pgdrill.errors import PgdrillError
    from pgdrill.postgres.self_description import describe

    server = Server(dsn=make_conninfo("", **words), data_directory=Path("/"))
    try:
        with Access(
            Cluster(
                server=server, repository=RepositorySettings(url="file:///none-yet"), name="new"
            ),
            credentials,
        ).connect() as connection:
            return describe(connection)
    except PgdrillError as error:
        explain(error, as_json=False)
        say("pgdrill: the server tells nothing; going on with what was given", err=True)
        return None


def _cluster(given: Given, words: dict[str, str], told: SelfDescription | None) -> FirstCluster:
    """Put together what was given, what the server told and what this host has."""
    from psycopg.conninfo import make_conninfo

    from pgdrill.cli.first_config import FirstCluster
    from pgdrill.postgres.installations import find_programs, usual_programs

    repository = given.repository or given.asked(
        "Where base backups and WAL are kept, s3://bucket/prefix or file:///folder", ""
    )
    if not repository:
        raise typer.BadParameter(
            "needed: s3://bucket/prefix, or file:///folder (not barman-cloud)",
            param_hint="--repository",
        )
    major = told.major_version if told else NEWEST_MAJOR
    data = (
        given.data_directory
        or (told and told.data_directory)
        or _ask_for_data_directory(given, major)
    )
    programs = given.bin_dir or find_programs(major, data)
    if not programs:
        programs = Path(
            given.asked(
                f"PostgreSQL {major}'s programs were not found; their folder",
                str(usual_programs(major)),
            )
        )
    database = told.database if told else words.get("dbname", "")
    return FirstCluster(
        name=given.cluster or given.asked("Name of the cluster", _as_name(database)),
        dsn=make_conninfo("", **_complete(words, told)),
        data_directory=data,
        bin_dir=programs,
        repository=repository,
        tool=given.tool or given.asked(f"Backup tool, {' or '.join(TOOLS)}", _tool(repository)),
        work_directory=given.work_directory or _work_directory(),
        superuser=told.superuser if told else "",
        system_identifier=told.system_identifier if told else None,
        databases=given.databases,
        found_databases=told.databases if told else (),
        endpoint_url=given.endpoint_url
        or _of_s3(repository, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        region=_of_s3(repository, "AWS_REGION", "AWS_DEFAULT_REGION"),
    )


def _ask_for_data_directory(given: Given, major: int) -> Path:
    """A guess is offered, and never taken unseen: base backups read these files."""
    if given.yes:
        raise typer.BadParameter(
            "the server does not tell (it needs the role pg_monitor, or does not answer); name it",
            param_hint="--data-directory",
        )
    return Path(
        given.asked("The server's data directory (PGDATA)", f"/var/lib/postgresql/{major}/main")
    )


def _complete(words: dict[str, str], told: SelfDescription | None) -> dict[str, str]:
    """Where the PG... variables of this shell said the rest, jobs without them get it from the
    file.
    """
    if not told or "service" in words or os.environ.get("PGSERVICE"):
        return words
    found = {"host": told.host, "user": told.user, "dbname": told.database}
    if "host" not in words and "hostaddr" not in words and told.port:
        found["port"] = str(told.port)
    elif "hostaddr" in words:
        del found["host"]
    return {**{key: value for key, value in found.items() if value}, **words}


def _as_name(database: str) -> str:
    plain = re.sub(r"[^a-z0-9_]+", "_", database.lower()).strip("_")[:63]
    return plain if re.match(r"[a-z]", plain) else "main"


def _tool(repository: str) -> str:
    """The first tool of the registry that is found here and can keep backups there."""
    fitting = [tool for tool in TOOLS.values() if not misfit(tool.name, repository, "")]
    return next((tool.name for tool in fitting if tool.found()), DEFAULT_TOOL)


def _work_directory() -> Path:
    """The system's place where this user may have it, else one below the home."""
    from pgdrill.errors import ConfigError
    from pgdrill.host.place import check_place

    try:
        check_place(SYSTEM_PLACE)
    except ConfigError:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "pgdrill"
    return SYSTEM_PLACE


def _of_s3(repository: str, *variables: str) -> str:
    return (
        next((os.environ[name] for name in variables if os.environ.get(name)), "")
        if repository.startswith("s3:")
        else ""
    )


def _tell_of_secret(made: FirstCluster, told: SelfDescription | None) -> None:
    host = (
        "*" if not told or told.host.startswith("/") else told.host
    )  # of a socket's folder, libpq may say localhost
    where = f"{host}:{told.port}:*:{told.user}" if told else "HOST:PORT:*:USER"
    say(
        f"The password is not in it. For the jobs of cluster {made.name} put it into PGPASSWORD, or"
        " as this line into ~/.pgpass (chmod 0600), or into an Airflow connection"
        f" (server.conn_id):\n  {where}:PASSWORD"
    )
