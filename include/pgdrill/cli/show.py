"""The commands that only show: backups, report, checks, archive-command."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgdrill.cli.app import (
    ClusterArgument,
    Exit,
    FullOption,
    JsonOption,
    command,
    err,
    exit_code,
    out,
    say,
    session_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgdrill.access import Access
    from pgdrill.baseline.own_system import OwnSystem
    from pgdrill.checks import Check
    from pgdrill.health import HealthCheck
    from pgdrill.repository.tools import BaseBackup

LISTED = 20
# of a variable, as every reader of such files takes it bare
PLAIN_VALUE = re.compile(r"-?[A-Za-z0-9][A-Za-z0-9._:/+-]*")


@command
def backups(
    context: typer.Context, cluster: ClusterArgument = "", as_json: JsonOption = False
) -> int:
    """List the finished base backups of the repository, oldest first.

    Exit 2 where some are known that it lacks, or none is certainly this cluster's."""
    from rich.text import Text

    from pgdrill.baseline.own_system import none_of_its_own, own_system, stranger_hint
    from pgdrill.errors import as_could_not_verify
    from pgdrill.reports.known_backups import check_backups
    from pgdrill.reports.terminal import backups_table

    access = session_of(context).access(cluster)
    found = access.repository.backups()
    recorded = {Path(key).stem for key in access.reports.sizes("backups/")}
    own = own_system(access, found)
    if as_json:
        check_backups(access, found)
        say(
            json.dumps(
                [_backup(backup, backup.name in recorded, own) for backup in found], indent=1
            )
        )
    elif found:
        out().print(backups_table(found, recorded))
    else:
        say(f"No finished base backup in {access.repository.url}; take one with `pgdrill backup`.")
    for name, problem in sorted(found.broken.items()):
        err().print(Text(f"Not listed: {name}, {problem.found}"), soft_wrap=True)
    for stranger in found if own.identifier else ():
        if stranger.system_identifier != own.identifier:
            hint = stranger_hint(
                access.cluster.name, stranger.name, access.cluster.retention.window_days
            )
            err().print(
                Text(
                    f"Another cluster's: {stranger.name}, system identifier"
                    f" {stranger.system_identifier}; {access.cluster.name} is {own.identifier}\n "
                    f" hint: {hint}"
                ),
                soft_wrap=True,
            )
    for why in none_of_its_own(access, found, own):
        raise as_could_not_verify(why)
    own.check()
    if not as_json:  # what there is was shown
        check_backups(access, found)
    return Exit.GOOD


def _backup(backup: BaseBackup, recorded: bool, own: OwnSystem) -> dict[str, Any]:
    from pgdrill.postgres.wal import format_lsn

    return {
        "name": backup.name,
        "system_identifier": str(backup.system_identifier),
        "major_version": backup.major_version,
        "timeline": backup.timeline,
        "start_lsn": format_lsn(backup.start_lsn),
        "finish_lsn": format_lsn(backup.finish_lsn),
        "started_at": backup.start_time.isoformat(),
        "finished_at": backup.finish_time.isoformat(),
        "uncompressed_bytes": backup.uncompressed_bytes,
        "compressed_bytes": backup.compressed_bytes,
        "tablespaces": dict(backup.tablespaces),
        "recorded": recorded,
        "own": backup.system_identifier == own.identifier if own.identifier else None,
    }


@command
def report(
    context: typer.Context,
    cluster: ClusterArgument = "",
    drill_id: Annotated[str, typer.Argument(metavar="ID", help="default: the newest report")] = "",
    show_list: Annotated[
        bool, typer.Option("--list", help=f"list the newest {LISTED} reports instead")
    ] = False,
    full: FullOption = False,
    as_json: JsonOption = False,
) -> int:
    """Show a drill's report. The exit code is its verdict's; with --list it is 0."""
    from pgdrill.errors import CouldNotVerify
    from pgdrill.reports import store
    from pgdrill.reports.one_screen import print_report
    from pgdrill.reports.terminal import report_table

    access, drill_id = session_of(context).access_and_id(cluster, drill_id)
    if show_list:
        return _list(access, as_json)
    known = [drill_id] if drill_id else store.list_reports(access)
    if not known:
        raise CouldNotVerify(
            "no-report",
            f"reports of cluster {access.cluster.name}",
            found="none here and none in the report store",
            expected="at least one drill",
            hint="run `pgdrill drill`; check reports_url",
        )
    found = store.load_report(access, known[-1])
    if as_json:
        say(found.model_dump_json(indent=1))
    else:
        (report_table if full else print_report)(found, out())
    return exit_code(found.verdict)


def _list(access: Access, as_json: bool) -> int:
    from pgdrill.reports.listing import grid
    from pgdrill.reports.terminal import seconds

    found = [_line(access, drill_id) for drill_id in _ids(access)[-LISTED:]]
    if as_json:
        say(json.dumps(found, indent=1))
    elif found:
        rows = [
            (
                line["drill_id"],
                line["verdict"],
                seconds(line["time_to_correct_vector_search_seconds"]),
                line["reason"],
            )
            for line in found
        ]
        out().print(
            grid(
                ("drill", "verdict", "to right search", "reason"),
                rows,
                right=("to right search",),
                prose=("reason",),
            )
        )
    else:
        say(f"No report of cluster {access.cluster.name} yet; `pgdrill drill` makes one.")
    return Exit.GOOD


def _ids(access: Access) -> list[str]:
    from pgdrill.reports import store

    return store.list_reports(access)


def _line(access: Access, drill_id: str) -> dict[str, Any]:
    """A line of the list; a report that cannot be read must not hide the others."""
    from pgdrill.errors import PgdrillError
    from pgdrill.reports import store

    try:
        found = store.load_report(access, drill_id)
    except PgdrillError as error:
        return {
            "drill_id": drill_id,
            "verdict": "unreadable",
            "reason": error.problem.found,
            "time_to_correct_vector_search_seconds": None,
        }
    return {
        "drill_id": drill_id,
        "verdict": found.verdict,
        "reason": found.reason,
        "backup": found.backup,
        "started_at": found.started_at.isoformat(),
        "measured_rpo_seconds": found.measured_rpo_seconds,
        "time_to_running_seconds": found.timings.time_to_running_seconds,
        "time_to_correct_vector_search_seconds": (
            found.timings.time_to_correct_vector_search_seconds
        ),
    }


@command
def checks(
    context: typer.Context,
    as_json: JsonOption = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="as docs/reference/checks.md, which is made by this")
    ] = False,
    of_health: Annotated[
        bool, typer.Option("--health", help="the health checks alone, which `pgdrill health` asks")
    ] = False,
) -> int:
    """List every check of drills and of health: what passing means, what a failing answer looks
    like, and the hint.
    """
    from rich.text import Text

    from pgdrill.checks import CHECKS, FAMILIES
    from pgdrill.health import in_order
    from pgdrill.health.render import as_markdown

    watched = in_order()
    if of_health and markdown:
        say(as_markdown(watched), nl=False)
        return Exit.GOOD

    ordered = sorted(CHECKS.values(), key=lambda check: FAMILIES.index(check.family))
    if as_json:
        keys = ("name", "family", "passing", "example", "hint", "required")
        listed = [{key: getattr(check, key) for key in keys} for check in ordered]
        say(json.dumps(_health_data(watched) if of_health else listed, indent=1))
        return Exit.GOOD
    if markdown:
        say(_as_markdown(ordered), nl=False)
        return Exit.GOOD
    console = out()
    for check in () if of_health else ordered:
        required = "" if check.required else ", may stay unanswered"
        console.print(Text.assemble((check.name, "bold"), f" ({check.family}{required})"))
        for label, words in (
            ("passes if", check.passing),
            ("fails as", check.example),
            ("hint", check.hint),
        ):
            console.print(Text(f"  {label:<9}  {words}"), soft_wrap=True)
    for one in watched:
        console.print(Text.assemble((one.name, "bold"), f" (health, {one.place}, {one.cost})"))
        for label, words in (
            ("ok if", one.passing),
            ("not ok as", one.example),
            ("hint", one.hint),
        ):
            console.print(Text(f"  {label:<9}  {words}"), soft_wrap=True)
    return Exit.GOOD


def _health_data(watched: Sequence[HealthCheck]) -> list[dict[str, Any]]:
    keys = ("name", "place", "passing", "example", "hint", "cost", "hides")
    return [{key: getattr(one, key) for key in keys} for one in watched]


def _as_markdown(ordered: Sequence[Check]) -> str:
    """docs/reference/checks.md."""
    from itertools import groupby

    lines = [
        "# The checks",
        "",
        (
            "Made by `pgdrill checks --markdown > docs/reference/checks.md`. Families stand in the"
            " order in which they are asked."
        ),
    ]
    for family, group in groupby(ordered, key=lambda check: check.family):
        lines += ["", f"## {family.capitalize()}"]
        for check in group:
            lines += [
                "",
                f"### {check.name}",
                "",
                f"Passes if {check.passing}." + ("" if check.required else " May stay unanswered."),
                "",
                f"    {check.example}",
                "",
                f"*Hint:* {check.hint}.",
            ]
    return "\n".join(lines) + "\n"


@command
def archive_command(
    context: typer.Context,
    cluster: ClusterArgument = "",
    conf: Annotated[
        bool, typer.Option("--conf", help="only the lines for postgresql.conf")
    ] = False,
    environment_only: Annotated[
        bool, typer.Option("--environment", help="only the server's environment")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Print the archive_command for the protected server, and the environment it needs there
    (secrets by name only).
    """
    if conf and environment_only:
        raise typer.BadParameter(
            "choose one of --conf and --environment; without them both are printed"
        )
    from pgdrill.repository import tools

    access = session_of(context).access(cluster)
    size = _segment_bytes(access)
    line = tools.archive_command(access.tool, size)
    environment = {**access.tool.environment(), **access.tool.segment_environment(size)}
    secret = sorted(name for name in environment if _is_secret(name))
    shown = {name: value for name, value in sorted(environment.items()) if name not in secret}
    if as_json:
        say(
            json.dumps(
                {"archive_command": line, "environment": shown, "secret_variables": secret},
                indent=1,
            )
        )
        return Exit.GOOD
    if not environment_only:
        _say_conf(line, access.cluster.drill.rpo_seconds)
    if not conf:
        _say_environment(shown, secret, s3=access.cluster.repository.url.startswith("s3:"))
    return Exit.GOOD


def _say_conf(line: str, promise: float) -> None:
    from pgdrill.repository.archiver import ARCHIVE_SHARE

    quoted = line.replace("'", "''")
    say("# postgresql.conf")
    say("archive_mode = on  # needs a restart")
    say(
        f"archive_timeout = {max(1, int(promise * ARCHIVE_SHARE))}  # seconds: with the time that a"
        f" push takes, within the promised RPO of {promise:g}"
    )
    say(f"archive_command = '{quoted}'")


def _say_environment(shown: dict[str, str], secret: list[str], *, s3: bool) -> None:
    say("# the server's environment, for example EnvironmentFile= of its systemd unit")
    for name, value in shown.items():
        say(f"{name}={_quoted(value)}")
    for name in secret:
        say(f"# {name}=  (set here; its value is not shown)")
    if not secret and s3:
        say(
            "# no keys are set here: the server needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
            " or its machine's role"
        )


def _quoted(value: str) -> str:
    """A value as systemd and Debian's pg_ctlcluster both read it: that one refuses a bare one that
    begins with a slash, as paths do.
    """
    return value if PLAIN_VALUE.fullmatch(value) else f"'{value}'"


def _segment_bytes(access: Access) -> int:
    """From the data directory where it is on this host, by the server's word, else PostgreSQL's
    default, and said so.
    """
    from pgdrill.baseline import segment_size
    from pgdrill.baseline.beside import server_segment_bytes
    from pgdrill.errors import CouldNotVerify
    from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES

    if found := segment_size.beside_here(access):
        return found
    try:
        return server_segment_bytes(access)
    except CouldNotVerify as error:
        print(
            f"pgdrill: {access.cluster.server.data_directory} is not on this host, or cannot be"
            f" read, and the server does not tell ({error.problem.reason}); taking WAL segments for"
            " 16 MiB each",
            file=sys.stderr,
        )
    return DEFAULT_SEGMENT_BYTES


def _is_secret(name: str) -> bool:
    from pgdrill.host.process import PATH_SUFFIXES, SECRET_NAMES

    return any(word in name.upper() for word in SECRET_NAMES) and not name.upper().endswith(
        PATH_SUFFIXES
    )
