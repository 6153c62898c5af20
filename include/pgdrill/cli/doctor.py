"""``pgdrill doctor``: all that a job would meet on this host, asked at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pgdrill.cli.app import ClusterArgument, JsonOption, command, out, say, session_of, warn_renamed

if TYPE_CHECKING:
    from pgdrill.doctor import Job

JOBS = ("backup", "drill", "dump", "prune")
OLD_JOB = "retention"  # what prune was called
SECONDS = 30.0


@command
def doctor(
    context: typer.Context,
    cluster: ClusterArgument = "",
    jobs: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="JOB",
            help=(
                f"what this host is for: {', '.join(JOBS)}; may be given several times."
                " Default: all"
            ),
        ),
    ] = None,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="PART",
            help="ask only this part (server, bucket, …); may be given several times",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="SECONDS", min=1, help="what has not answered by then is unknown"
        ),
    ] = SECONDS,
    as_json: JsonOption = False,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown",
            help="ask nothing: print the table of docs/reference/doctor.md, which is made by this",
        ),
    ] = False,
) -> int:
    """Ask everything that jobs need, on the host and as the user that they run as.

    Production is only read.

    Exit codes: 0 all good, or with warnings; 1 something is wrong; 2 something could not be asked.
    """
    from pgdrill.doctor import PARTS, diagnose, in_order
    from pgdrill.doctor.render import as_markdown, print_diagnosis

    if markdown:
        say(as_markdown(in_order()), nl=False)
        return 0
    for part in parts or ():
        if part not in PARTS:
            raise typer.BadParameter(
                f"{part!r} is none; choose {', '.join(PARTS)}", param_hint="--part"
            )
    found = diagnose(
        session_of(context).access(cluster),
        parts=parts or (),
        jobs=_jobs(jobs or ()),
        seconds=timeout,
    )
    if as_json:
        say(found.model_dump_json(indent=1))
    else:
        print_diagnosis(found, out())
    return found.exit_code


def _jobs(wanted: list[str] | tuple[str, ...]) -> list[Job]:
    if OLD_JOB in wanted:
        warn_renamed(f"--for {OLD_JOB}", "--for prune")
        wanted = ["prune" if job == OLD_JOB else job for job in wanted]
    for job in wanted:
        if job not in JOBS:
            raise typer.BadParameter(
                f"{job!r} is no job; choose {', '.join(JOBS)}", param_hint="--for"
            )
    return list(wanted)  # type: ignore[arg-type]
