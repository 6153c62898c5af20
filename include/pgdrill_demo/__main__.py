"""``python -m pgdrill_demo demo|up|down``: the embedded stack with a real Airflow.

``demo`` runs one backup and one drill and leaves nothing but the report, which it shows on one
screen, or with every answer (``--full``); ``up`` leaves everything running for a look, ``down``
ends it.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console

from pgdrill.host.lock import this_process
from pgdrill.host.owner import Owner
from pgdrill.reports import store
from pgdrill.reports.model import Report
from pgdrill.reports.one_screen import print_report
from pgdrill.reports.terminal import report_table
from pgdrill_demo.airflow import PROJECT, Airflow
from pgdrill_demo.dag_run import DagRun
from pgdrill_demo.stack import DATABASE, Stack, tear_down
from pgdrill_demo.steps import Steps

LOCAL = PROJECT / ".local"
VARIABLES = LOCAL / "demo.env"
console = Console(highlight=False)


def main(arguments: list[str]) -> int:
    """Run one of the three; the exit code of the demo is the drill's."""
    name, *options = arguments or [""]
    commands: dict[str, Callable[[], int]] = {
        "demo": lambda: demo(full=bool(options)),
        "up": up,
        "down": down,
    }
    if name not in commands or options not in ([], ["--full"] if name == "demo" else []):
        console.print("usage: python -m pgdrill_demo demo [--full] | up | down", markup=False)
        return 2
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return commands[name]()
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def demo(*, full: bool = False) -> int:
    """Backup, drill, report; then remove everything."""
    steps = Steps(console)
    with _remembered("demo") as home:
        try:
            stack, airflow = _start(home, steps)
            DagRun(airflow, "agents.base_backup", steps).wait()
            state = DagRun(airflow, "agents.restore_drill", steps).wait()
            queue = _queue(stack, steps)
            report = _report(stack)
            kept = LOCAL / "reports" / f"{report.drill_id}.json"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(store.report_file(stack.access, report.drill_id), kept)
            # the stack's own copies go with the stack
            report.kept_at = [str(kept.relative_to(PROJECT))]
            console.print()
            if full:
                report_table(report, console)
            else:
                print_report(report, console, more="in that file, and by `make demo ARGS=--full`")
            console.print()
        finally:
            with steps.doing("ending every process, removing the folder"):
                left = tear_down(home)
    steps.say(f"done; {_left(home, left)}")
    good = state == "success" and report.verdict == "passed" and queue in ("", "passed")
    return 0 if not left and good else 1


def _queue(stack: Stack, steps: Steps) -> str:
    """Copy the agents' queue and prove the copy; the verdict, empty without a queue."""
    if not stack.with_queue:
        return ""
    from pgdrill.queues.take import take_snapshot
    from pgdrill.queues.verify import verify

    with steps.doing("copying the agents' queue, and loading the copy"):
        record = take_snapshot(stack.queue_access)
        report = verify(stack.queue_access)
    steps.say(
        f"queue snapshot {record.snapshot_id}: {report.verdict}, {report.reason};"
        f" {report.live} live jobs, copied from {record.product} {record.server_version}"
    )
    return report.verdict


def up() -> int:
    """The same stack, left running."""
    note = LOCAL / "up.json"
    if note.exists():
        console.print("already up; `make down` first")
        return 2
    with _remembered("up", keep=True) as home:
        try:
            stack, airflow = _start(home, Steps(console))
        except BaseException:
            tear_down(home)
            note.unlink()
            raise
        console.print(_how_to_use(stack, airflow), markup=False, soft_wrap=True)
    return 0


def _how_to_use(stack: Stack, airflow: Airflow) -> str:
    """What ``up`` says at its end: lines that can be copied as they stand."""
    user, password = airflow.login
    psql = shlex.join([str(stack.programs.path("psql")), f"host={stack.home} dbname={DATABASE}"])
    return f"""
Airflow: {airflow.url}  user {user}  password {password}
  Unpause agents.base_backup and agents.restore_drill, and trigger one after the other.

pgdrill on this stack, in any shell:
  . {shlex.quote(str(_variables(stack)))}
  pgdrill backup           # a base backup, proved listed, whole and archived
  pgdrill drill            # restores it, asks every check, destroys the copy
  pgdrill report --full    # every answer of the newest drill
  pgdrill doctor           # what is configured, and whether it works
  pgdrill --help           # all commands
PostgreSQL itself, after the same first line:
  {psql}

`make down` ends it all."""


def down() -> int:
    """End what ``up`` started."""
    note = LOCAL / "up.json"
    if not note.exists():
        console.print("nothing is up")
        return 0
    home = Path(json.loads(note.read_text())["home"])
    left = tear_down(home)
    if not home.exists():
        note.unlink()
        VARIABLES.unlink(missing_ok=True)
    console.print(f"down: {_left(home, left)}", soft_wrap=True)
    return 1 if left or home.exists() else 0


def _left(home: Path, left: list[str]) -> str:
    """What was looked at, and what is there."""
    if home.exists():
        return f"{home} could not be removed" + (f"; in it work {'; '.join(left)}" if left else "")
    if left:
        return (
            f"{home} is removed, but these processes still use it, and were not ended:"
            f" {'; '.join(left)}"
        )
    return "no process works in its folder any more, and the folder is removed."


def _variables(stack: Stack) -> Path:
    """A file for the shell, for this user's eyes only, that lets `pgdrill` work on the demo."""
    path = f"{PROJECT / '.local' / 'bin'}:{PROJECT / '.venv' / 'bin'}:$PATH"
    words = {
        name: value for name, value in stack.environment.items() if not name.startswith("AIRFLOW_")
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in words.items()]
    VARIABLES.unlink(missing_ok=True)
    VARIABLES.touch(mode=0o600)
    VARIABLES.write_text("\n".join([*lines, f'export PATH="{path}"', ""]))
    return VARIABLES


@contextlib.contextmanager
def _remembered(name: str, *, keep: bool = False) -> Iterator[Path]:
    """A folder with a short path, written down so that a killed demo's leavings are found by the
    next one.
    """
    LOCAL.mkdir(exist_ok=True)
    for note in LOCAL.glob("demo-*.json"):
        content = json.loads(note.read_text())
        if Owner.from_json(content["process"]).gone():
            tear_down(Path(content["home"]))
            note.unlink()
    process = this_process()
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    note = LOCAL / (f"{name}.json" if keep else f"{name}-{process.pid}.json")
    note.write_text(json.dumps({"home": str(home), "process": process.to_json()}))
    yield home
    if not keep:
        note.unlink()


def _start(home: Path, steps: Steps) -> tuple[Stack, Airflow]:
    """Store, servers and Airflow; Airflow comes up while the sample is loaded."""
    stack = Stack(home)
    stack.with_queue = stack.queue.programs is not None
    if not stack.with_queue:
        steps.say("no Redis, or no bullmq, is installed here: the demo goes on without a queue")
    if stack.tool != "wal-g":
        steps.say("wal-g is not installed here: the demo goes on with barman-cloud")
    with steps.doing("starting S3, and Airflow beside what follows"):
        stack.s3.start()
        stack.write_config()
        airflow = Airflow(home / "airflow", stack.environment)
        airflow.launch()
    with steps.doing(""):
        stack.create(tell=steps.say)
    with steps.doing("starting the primary, which archives its WAL to S3"):
        stack.start()
    with steps.doing("cloning a standby"):
        stack.start_standby()
    with steps.doing("starting a writer, which keeps writing, and heartbeats"):
        stack.start_writer()
        stack.start_heartbeat()
    if stack.with_queue:
        with steps.doing("starting Redis, with a queue of the agents"):
            stack.queue.start()
            stack.queue.fill()
    with steps.doing("waiting for Airflow"):
        airflow.wait_healthy(on_change=lambda name: steps.say(f"  Airflow's {name} is there"))
    steps.say(f"Airflow, a primary with a standby, and S3 are up. Tool: {stack.tool}.")
    return stack, airflow


def _report(stack: Stack) -> Report:
    newest = store.list_reports(stack.access)[-1]
    return store.load_report(stack.access, newest)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
