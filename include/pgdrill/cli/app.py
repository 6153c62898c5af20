"""What every command shares: options, consoles, the chosen cluster, errors and exit codes."""

from __future__ import annotations

import functools
import json
import logging
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from pgdrill import version as program_version
from pgdrill.cli.groups import InSteps
from pgdrill.host.logs import LineFormatter
from pgdrill.renamed import now_called
from pgdrill.text import visible

if TYPE_CHECKING:
    from rich.console import Console

    from pgdrill.access import Access
    from pgdrill.config import Settings
    from pgdrill.errors import PgdrillError
    from pgdrill.reports.model import Verdict

Parameters = ParamSpec("Parameters")
app = typer.Typer(
    cls=InSteps,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Back up PostgreSQL + pgvector, and prove by restoring that vector search on it is right.",
    epilog=(
        "Exit codes: 0 good; 1 the drill, the backup or a check failed; 2 could not run or could"
        " not verify; 130 and 143 stopped by SIGINT and SIGTERM, after the restored cluster was"
        " destroyed."
    ),
)

ClusterArgument = Annotated[
    str, typer.Argument(metavar="CLUSTER", help="may be left out if the config has just one")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="JSON on stdout, for programs; everything else on stderr")
]
FullOption = Annotated[
    bool, typer.Option("--full", help="show every answer; without it, what passed is counted")
]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="wait so long for a job that holds what this one needs; it is named",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="dr.toml; default: $PGDRILL_CONFIG, then include/dr.toml"
    ),
]


class Exit(IntEnum):
    """Exit codes."""

    GOOD = 0
    FAILED = 1
    COULD_NOT = 2


@dataclass(frozen=True)
class Session:
    """The global options, and what is made from them."""

    config: Path | None = None
    debug: bool = False
    verbose: bool = False

    @functools.cached_property
    def settings(self) -> Settings:
        """The whole configuration."""
        from pgdrill.config import load

        return load(self.config)

    def access(self, cluster: str) -> Access:
        """The named cluster, or the only one, with secrets from the environment."""
        from pgdrill.access import Access
        from pgdrill.errors import ConfigError

        names = self.settings.names
        if not cluster and len(names) > 1:
            raise ConfigError(
                "which-cluster",
                "argument CLUSTER",
                found="none",
                expected=f"one of {', '.join(names)}",
                hint="name the cluster, for the config has several",
            )
        return Access(self.settings.cluster(cluster or names[0]))

    def access_and_id(self, first: str, second: str) -> tuple[Access, str]:
        """For ``[CLUSTER] [ID]``: a single word is the ID if no cluster has that name and the
        cluster is clear.
        """
        if (
            first
            and not second
            and first not in self.settings.names
            and len(self.settings.names) == 1
        ):
            first, second = "", first
        if second and (
            not second.replace("-", "").replace("_", "").isalnum() or not second[0].isalnum()
        ):
            raise typer.BadParameter(
                f"{second!r} is no drill id; `pgdrill report --list` shows them"
            )
        return self.access(first), second


def session_of(context: typer.Context, config: Path | None = None) -> Session:
    """The session, with a ``--config`` given after the command before the global one."""
    session: Session = context.obj
    return replace(session, config=config) if config else session


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text, or JSON: what would rule the terminal is shown instead (in JSON it stays the same
    string).
    """
    typer.echo(visible(text), err=err, nl=nl)


def warn_renamed(old: str, new: str) -> None:
    """Say on stderr what an option is called now, and until when the old name is taken."""
    say(f"pgdrill: {now_called(old, new)}", err=True)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"pgdrill {program_version()}")
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    config: ConfigOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="log every step on stderr")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="show the traceback of an unexpected error")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="print the version and end"
        ),
    ] = False,
) -> None:
    context.obj = Session(config, debug, verbose)


def command(function: Callable[Parameters, int]) -> Callable[Parameters, None]:
    """A command that returns its exit code; errors become words, and a code of their own."""

    @functools.wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        from pgdrill.cli.signals import Interrupted
        from pgdrill.errors import BackupFault, PgdrillError
        from pgdrill.host.private import closed_to_writers

        closed_to_writers()
        context: Any = kwargs["context"]
        log_to_stderr(logging.INFO if context.obj.verbose else logging.WARNING)
        try:
            code = int(function(*args, **kwargs))
        except Interrupted as stopped:
            explain(stopped, as_json=bool(kwargs.get("as_json")))
            code = 128 + stopped.signal
        except PgdrillError as error:
            explain(error, as_json=bool(kwargs.get("as_json")))
            code = Exit.FAILED if isinstance(error, BackupFault) else Exit.COULD_NOT
        except (typer.Exit, typer.Abort, typer.BadParameter, KeyboardInterrupt, BrokenPipeError):
            raise  # typer's own business: usage, and a reader such as `head` that has seen enough
        except Exception as error:
            _unexpected(error, context.obj.debug)
            code = Exit.COULD_NOT
        raise typer.Exit(code)

    return run


def explain(error: PgdrillError, *, as_json: bool) -> None:
    """Print a problem's four parts on stderr; for programs also as JSON on stdout."""
    from pgdrill.reports.terminal import problem

    if as_json:
        say(json.dumps({"error": asdict(error.problem)}, indent=1))
    words = error.problem
    err().print(
        problem(f"pgdrill: {words.reason}", words.thing, words.found, words.expected, words.hint)
    )


def _unexpected(error: Exception, debug: bool) -> None:
    import os

    from pgdrill.host.process import mask

    text = (
        "".join(traceback.format_exception(error)).rstrip()
        if debug
        else f"{type(error).__name__}: {error}"
    )
    words = text if debug else " ".join(text.split())[:500]
    hint = "" if debug else " (run with --debug for the traceback)"
    say(f"pgdrill: unexpected error: {mask(words, os.environ)}{hint}", err=True)


def exit_code(verdict: Verdict) -> Exit:
    """A verdict's exit code."""
    return {"passed": Exit.GOOD, "failed": Exit.FAILED, "could not verify": Exit.COULD_NOT}[verdict]


def out() -> Console:
    """Results, on stdout. Made when needed, for tests and pagers exchange the stream."""
    from pgdrill.reports.terminal import SafeConsole

    return SafeConsole(highlight=False, markup=False, emoji=False)


def err() -> Console:
    """Everything that is no result, on stderr."""
    from pgdrill.reports.terminal import SafeConsole

    return SafeConsole(stderr=True, highlight=False, markup=False, emoji=False)


def log_to_stderr(level: int, handler: logging.Handler | None = None) -> None:
    """Send the library's log to stderr (plain lines), or to a handler that leaves a progress bar
    whole.
    """
    handler = handler or logging.StreamHandler(sys.stderr)
    if handler.formatter is None:
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("pgdrill")
    logger.handlers = [handler]  # not added: main() may run several times in a process
    logger.setLevel(level)
