"""How far a job is: a bar where stderr is a terminal, log lines everywhere else."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pgdrill.cli.app import err, log_to_stderr
from pgdrill.host.logs import LineFormatter
from pgdrill.reports.terminal import size
from pgdrill.text import one_line

Show = Callable[[str, int, int], None]
WORDS = {
    "backup": "backing up",
    "fetch": "fetching the base backup",
    "replay": "replaying WAL",
    "checks": "asking the checks",
}


@contextlib.contextmanager
def progress(first: str, *, verbose: bool) -> Iterator[Show]:
    """A function for the library's ``progress``: what, bytes done, bytes in all (0: unknown)."""
    console = err()
    if not console.is_terminal:
        log_to_stderr(logging.INFO)
        yield lambda what, done, total: None  # the library's own lines tell enough
        return
    handler = RichHandler(
        console=console, show_path=False, log_time_format="%H:%M:%S", markup=False
    )
    handler.setFormatter(LineFormatter("%(message)s"))
    log_to_stderr(logging.INFO if verbose else logging.WARNING, handler)
    with _bar(console) as bar:
        task = bar.add_task(first, total=None, moved="")
        began: dict[str, float] = {}

        def show(what: str, done: int, total: int) -> None:
            spent = time.monotonic() - began.setdefault(what, time.monotonic())
            moved = _moved(done, total, spent) if done else ""
            if what.startswith("build "):
                moved = f"{done} of {total} rows"
            bar.update(
                task,
                description=one_line(WORDS.get(what, what)),
                completed=min(done, total),
                total=total or None,
                moved=moved,
            )

        yield show
    log_to_stderr(logging.INFO if verbose else logging.WARNING)


def _moved(done: int, total: int, spent_seconds: float) -> str:
    """``3.1 GB of 5.0 GB, 48.2 MB/s``; what a tool writes may be more than what it unpacks."""
    amount = f"{size(min(done, total))} of {size(total)}" if total else size(done)
    return amount + (f", {done / spent_seconds / 1e6:.1f} MB/s" if spent_seconds >= 1 else "")


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn("line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[moved]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
