"""The commands for logical dumps: dump, dumps, restore-table, migrate, forecast indexes, and
``drill --dump``.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgdrill.cli.app import (
    ClusterArgument,
    Exit,
    FullOption,
    JsonOption,
    Session,
    WaitOption,
    command,
    err,
    exit_code,
    out,
    say,
    session_of,
    warn_renamed,
)

if TYPE_CHECKING:
    from pgdrill.access import Access
    from pgdrill.logical.report import DumpReport, DumpServer
    from pgdrill.reports.model import RestoredCluster

DumpOption = Annotated[
    str,
    typer.Option("--dump", metavar="ID", help="LATEST, or a dump's id as `pgdrill dumps` lists it"),
]
BinDirOption = Annotated[
    str,
    typer.Option(
        "--bin-dir",
        metavar="DIR",
        help="another PostgreSQL's programs: of a newer major version, or other extensions",
    ),
]


@dataclass(frozen=True)
class Chosen:
    """What a person chose for a restore."""

    dump: str
    families: Sequence[str] = ()
    keep: bool = False
    bin_dir: str = ""
    migrations: Path | None = None
    may_change: Sequence[str] = ()
    wait: float = 0.0
    full: bool = False


@command
def dump(
    context: typer.Context,
    cluster: ClusterArgument = "",
    database: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="only this database (repeatable)")
    ] = None,
    wait: WaitOption = 0,
    as_json: JsonOption = False,
) -> int:
    """Dump every configured database to the store.

    It counts once `pgdrill drill --dump LATEST` has passed.
    """
    from pgdrill.cli.progress import progress
    from pgdrill.cli.signals import stopping
    from pgdrill.host.process import Runner
    from pgdrill.host.waiting import when_free
    from pgdrill.logical.take import take_dump
    from pgdrill.logical.terminal import manifest_table

    session, runner = session_of(context), Runner()
    access = session.access(cluster)
    with progress("looking at the server", verbose=session.verbose) as show, stopping(runner):
        manifest = when_free(
            lambda: take_dump(
                access, databases=tuple(database or ()), runner=runner, progress=show
            ),
            seconds=wait,
        )
    if as_json:
        say(manifest.model_dump_json(indent=1))
        return Exit.GOOD
    from rich.text import Text

    out().print(
        Text(
            f"Dump {manifest.dump_id} of cluster {manifest.cluster}: whole in the store, not yet"
            " restored.",
            "bold green",
        )
    )
    out().print(manifest_table(manifest))
    out().print(Text("Prove it with: pgdrill drill --dump LATEST"))
    return Exit.GOOD


@command
def restore_table(
    context: typer.Context,
    cluster: ClusterArgument = "",
    table: Annotated[
        str,
        typer.Option(
            metavar="TABLE", help="schema.table, or table in public; its partitions come along"
        ),
    ] = ...,  # type: ignore[assignment]
    into: Annotated[
        str, typer.Option(metavar="DSN", help="libpq connection string with dbname, no password")
    ] = ...,  # type: ignore[assignment]
    dump: DumpOption = "LATEST",
    database: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="the database of the dump, where several hold such a table"
        ),
    ] = "",
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="DROP a table of that name there first, in the same transaction"
        ),
    ] = False,
    as_superuser: Annotated[
        bool,
        typer.Option(
            "--as-superuser",
            help=(
                "restore as a superuser, with whose rights users' code in CHECKs and indexes then"
                " runs"
            ),
        ),
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Restore one table with its indexes into a database, all or nothing; never over an existing
    table unless told.
    """
    from pgdrill.cli.progress import progress
    from pgdrill.cli.signals import stopping
    from pgdrill.host.process import Runner
    from pgdrill.logical import single_table as library

    session, runner = session_of(context), Runner()
    access = session.access(cluster)
    with progress("looking for the table", verbose=session.verbose) as show, stopping(runner):
        result = library.restore_table(
            access,
            into,
            table,
            origin=library.Origin(dump, database),
            allowed=library.Allowed(replace, as_superuser),
            runner=runner,
            progress=show,
        )
    if as_json:
        say(json.dumps(asdict(result), indent=1))
        return Exit.GOOD
    say(
        f"{', '.join(result.tables)} of dump {result.dump_id}: {result.rows} rows, compared with"
        " the dump's snapshot."
    )
    for code in result.code:
        say(f"With the rights of role {result.role} ran what stands on {code}.")
    if result.left_out:
        left = ", ".join(f"{count} {kind}" for kind, count in sorted(result.left_out.items()))
        say(f"Left out, for a table alone cannot bring it: {left}.")
    return Exit.GOOD


@command
def dumps(
    context: typer.Context, cluster: ClusterArgument = "", as_json: JsonOption = False
) -> int:
    """List the dumps, oldest first, and whether each counts: restored, checked, passed."""
    from pgdrill.logical import store as dump_store
    from pgdrill.logical.terminal import dumps_table
    from pgdrill.retention.known import check_dumps

    access = session_of(context).access(cluster)
    found = dump_store.listed(access)
    known = {one.dump_id: manifest for one in found if (manifest := _manifest(access, one.dump_id))}
    if as_json:
        check_dumps(access, [one.dump_id for one in found])
        say(
            json.dumps(
                [
                    {
                        "dump_id": one.dump_id,
                        "counts": one.counts,
                        "verdict": one.last.verdict if one.last else None,
                        "reason": one.last.reason if one.last else "never restored",
                        "stored_bytes": (
                            known[one.dump_id].stored_bytes if one.dump_id in known else None
                        ),
                        "server_version": (
                            known[one.dump_id].server_version if one.dump_id in known else None
                        ),
                        "databases": (
                            [database.name for database in known[one.dump_id].databases]
                            if one.dump_id in known
                            else []
                        ),
                    }
                    for one in found
                ],
                indent=1,
            )
        )
    elif found:
        out().print(dumps_table(found, known))
    else:
        say(f"No dump in {access.dumps.url}; take one with `pgdrill dump`.")
    if not as_json:  # what there is was shown
        check_dumps(access, [one.dump_id for one in found])
    return Exit.GOOD


def _manifest(access: Access, dump_id: str) -> Any:
    """One that cannot be read must not hide the others."""
    from pgdrill.errors import PgdrillError
    from pgdrill.logical import manifest

    try:
        return manifest.read(access, dump_id)
    except PgdrillError as error:
        say(f"pgdrill: {error}", err=True)
        return None


@command
def migrate(
    context: typer.Context,
    cluster: ClusterArgument = "",
    migrations: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="its *.sql in the order of their names, or its alembic.ini"
        ),
    ] = None,
    dump: DumpOption = "LATEST",
    bin_dir: BinDirOption = "",
    may_change: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TABLE", help="a table whose rows the migration may change (repeatable)"
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="leave the migrated cluster running; `pgdrill destroy` ends it"
        ),
    ] = False,
    wait: WaitOption = 0,
    full: FullOption = False,
    as_json: JsonOption = False,
    old_cluster: Annotated[str, typer.Option("--cluster", hidden=True)] = "",
    old_dump: Annotated[str, typer.Option("--from-dump", hidden=True)] = "",
) -> int:
    """Rehearse a schema migration on a restored dump: locks and seconds of each statement,
    rewrites, and what it loses.
    """
    from pgdrill.checks import FAMILIES

    if old_dump:
        warn_renamed("--from-dump", "--dump")
    if migrations is None:  # as it was until 0.1: migrate FOLDER --cluster CLUSTER
        if not cluster:
            raise typer.BadParameter("a folder is needed", param_hint="--migrations")
        warn_renamed(
            "pgdrill migrate FOLDER --cluster CLUSTER",
            "pgdrill migrate CLUSTER --migrations FOLDER",
        )
        migrations, cluster = Path(cluster), old_cluster
    elif old_cluster:
        warn_renamed("--cluster", "the argument CLUSTER")
    session = session_of(context)
    chosen = Chosen(
        old_dump or dump, FAMILIES, keep, bin_dir, migrations, may_change or (), wait, full
    )
    return restore_and_check(session, session.access(cluster or old_cluster), chosen, as_json)


def restore_and_check(session: Session, access: Access, chosen: Chosen, as_json: bool) -> int:
    """Restore a dump and ask every check, for ``migrate`` and ``drill --dump``."""
    from pgdrill.cli.progress import progress
    from pgdrill.cli.signals import stopping
    from pgdrill.host.process import Runner
    from pgdrill.host.waiting import when_free
    from pgdrill.logical.drill import Options, drill_dump
    from pgdrill.logical.terminal import print_report, report_table
    from pgdrill.reports.drill_id import new_drill_id

    runner, drill_id = Runner(), new_drill_id()
    options = Options(
        dump=chosen.dump,
        families=chosen.families,
        bin_dir=chosen.bin_dir,
        migrations=chosen.migrations,
        keep=chosen.keep,
        may_change=chosen.may_change,
    )
    with progress("looking for the dump", verbose=session.verbose) as show, stopping(runner):
        report = when_free(
            lambda: drill_dump(access, options, drill_id=drill_id, runner=runner, progress=show),
            seconds=chosen.wait,
        )
    if as_json:
        say(report.model_dump_json(indent=1))
    else:
        (report_table if chosen.full else print_report)(report, out())
    if report.restored:
        _tell_of_kept(access, report)
    return exit_code(report.verdict)


def way_in(access: Access, restored: RestoredCluster | DumpServer) -> str:
    """The line that leads into a restored cluster that was kept, by the user who restored it."""
    from psycopg.conninfo import make_conninfo

    server = access.cluster.server
    words = make_conninfo(
        "",
        host=restored.socket_directory,
        port=restored.port,
        user=server.superuser,
        dbname=(*server.databases, "postgres")[0],
    )
    return shlex.join(
        [access.binaries.path("psql") if (server.bin_dir / "psql").exists() else "psql", words]
    )


def _tell_of_kept(access: Access, report: DumpReport) -> None:
    from rich.text import Text

    assert report.restored  # noqa: S101 - asked before
    err().print(
        Text(
            f"The restored cluster is kept until {report.restored.expires_at:%Y-%m-%d %H:%M} UTC,"
            f" or\n  pgdrill destroy {report.cluster} {report.drill_id}\nLook at it as the"
            f" superuser:\n  {way_in(access, report.restored)}"
        ),
        soft_wrap=True,
    )


@command
def forecast_indexes(
    context: typer.Context,
    cluster: ClusterArgument = "",
    rows: Annotated[
        int, typer.Option(metavar="N", min=0, help="rows to build at; 0: as many as now")
    ] = 0,
    index: Annotated[
        str,
        typer.Option(
            metavar="INDEX", help="schema.index; default: every HNSW index that was built"
        ),
    ] = "",
    as_json: JsonOption = False,
) -> int:
    """How long HNSW indexes will take to build after a logical restore, learnt from those that
    drills have built.
    """
    from pgdrill.errors import CouldNotVerify
    from pgdrill.logical import build_forecast as library
    from pgdrill.logical import store as dump_store
    from pgdrill.logical.terminal import forecasts_table
    from pgdrill.text import count

    access = session_of(context).access(cluster)
    builds = dump_store.builds(access)
    names = sorted(
        {build.index for build in builds if build.method == "hnsw" and index in ("", build.index)}
    )
    now = {build.index: build.rows for build in builds}
    found = [one for name in names if (one := library.forecast(builds, name, rows or now[name]))]
    if not found:
        raise CouldNotVerify(
            "no-build",
            f"forecast for {index or 'the indexes'} of {access.cluster.name}",
            found=(
                f"{count(len(builds), 'timed build')}, none of HNSW in memory with"
                f" {library.FEWEST_ROWS} rows or more"
            ),
            expected="one that tells",
            hint="run `pgdrill drill --dump LATEST` on a dump with enough rows",
        )
    if as_json:
        say(json.dumps([asdict(one) for one in found], indent=1))
    else:
        out().print(forecasts_table(found))
    return Exit.GOOD
