"""``python -m pgdrill_demo demo|up|down``: the embedded stack with a real Airflow.

``demo`` runs one backup and one drill and leaves nothing but the report; ``up`` leaves everything running for a
look, ``down`` ends it.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console

from pgdrill.host.lock import this_process
from pgdrill.host.owner import Owner
from pgdrill.reports import store
from pgdrill.reports.model import Report
from pgdrill.reports.terminal import report_table
from pgdrill_demo.airflow import PROJECT, Airflow
from pgdrill_demo.stack import Stack, tear_down

LOCAL = PROJECT / ".local"
VARIABLES = LOCAL / "demo.env"
console = Console(highlight=False)


def main(arguments: list[str]) -> int:
    """Run one of the three; the exit code of the demo is the drill's."""
    commands: dict[str, Callable[[], int]] = {"demo": demo, "up": up, "down": down}
    if len(arguments) != 1 or arguments[0] not in commands:
        console.print("usage: python -m pgdrill_demo demo|up|down")
        return 2
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return commands[arguments[0]]()
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def demo() -> int:
    """Backup, drill, report; then remove everything."""
    started = time.monotonic()
    with _remembered("demo") as home:
        try:
            stack, airflow = _start(home)
            _run(airflow, "agents.base_backup")
            state = _run(airflow, "agents.restore_drill")
            report = _report(stack)
            kept = LOCAL / "reports" / f"{report.drill_id}.json"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(store.report_file(stack.access, report.drill_id), kept)
            report.kept_at = [str(kept.relative_to(PROJECT))]  # the stack's own copies go with the stack
            report_table(report, console)
        finally:
            with console.status("ending every process, removing the folder"):
                left = tear_down(home)
    console.print(f"Done in {time.monotonic() - started:.0f} s; {_left(home, left)}", soft_wrap=True)
    return 0 if not left and state == "success" and report.verdict == "passed" else 1


def up() -> int:
    """The same stack, left running."""
    note = LOCAL / "up.json"
    if note.exists():
        console.print("already up; `make down` first")
        return 2
    with _remembered("up", keep=True) as home:
        try:
            stack, airflow = _start(home)
        except BaseException:
            tear_down(home)
            note.unlink()
            raise
        user, password = airflow.login
        console.print(f"Airflow: {airflow.url}  user {user}  password {password}", soft_wrap=True)
        console.print("Unpause agents.base_backup and agents.restore_drill, and trigger one after the other.")
        console.print(f"By the command line: . {_variables(stack)}; pgdrill backup; pgdrill drill; pgdrill report", soft_wrap=True)
        console.print("`make down` ends it all.")
    return 0


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
        return f"{home} is removed, but these processes still use it, and were not ended: {'; '.join(left)}"
    return "no process works in its folder any more, and the folder is removed."


def _variables(stack: Stack) -> Path:
    """A file for the shell, for this user's eyes only, that lets `pgdrill` work on the demo."""
    path = f"{PROJECT / '.local' / 'bin'}:{PROJECT / '.venv' / 'bin'}:$PATH"
    words = {name: value for name, value in stack.environment.items() if not name.startswith("AIRFLOW_")}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in words.items()]
    VARIABLES.unlink(missing_ok=True)
    VARIABLES.touch(mode=0o600)
    VARIABLES.write_text("\n".join([*lines, f'export PATH="{path}"', ""]))
    return VARIABLES.relative_to(PROJECT)


@contextlib.contextmanager
def _remembered(name: str, *, keep: bool = False) -> Iterator[Path]:
    """A folder with a short path, written down so that a killed demo's leavings are found by the next one."""
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


def _start(home: Path) -> tuple[Stack, Airflow]:
    """Store, servers and Airflow; Airflow comes up while the sample is loaded."""
    stack = Stack(home)
    if stack.tool != "wal-g":
        console.print("wal-g is not installed here: the demo goes on with barman-cloud.")
    with console.status("starting Airflow, PostgreSQL, S3; loading the sample"):
        stack.s3.start()
        stack.write_config()
        airflow = Airflow(home / "airflow", stack.environment)
        airflow.launch()
        stack.create()
        stack.start()
        stack.start_standby()
        stack.start_writer()
        stack.start_heartbeat()
        airflow.wait_healthy()
    console.print(f"Airflow, a primary with a standby, and S3 are up; a writer keeps writing. Tool: {stack.tool}.")
    return stack, airflow


def _run(airflow: Airflow, dag_id: str) -> str:
    """Start a DAG as a click would and show its tasks as they change."""
    run_id = airflow.trigger(dag_id)
    console.print(f"{dag_id}: started by the API as {run_id}")
    begun = time.monotonic()

    def show(task: str, state: str) -> None:
        if state in ("running", "success", "failed", "upstream_failed", "skipped", "up_for_retry", "up_for_reschedule"):
            console.print(f"  {time.monotonic() - begun:5.1f} s  {task:<12} {state}")

    state = airflow.wait_for_run(dag_id, run_id, show)
    if state != "success":
        for task, ended in airflow.task_states(dag_id, run_id).items():
            if ended == "failed":
                console.print(f"  the log of {task} ends:")
                for line in list(airflow.log_lines(dag_id, run_id, task))[-12:]:
                    console.print(f"    {line}", markup=False)
    return state


def _report(stack: Stack) -> Report:
    newest = store.list_reports(stack.access)[-1]
    return store.load_report(stack.access, newest)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
