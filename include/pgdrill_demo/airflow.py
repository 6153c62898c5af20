"""A real Airflow for the demo and the end-to-end tests: ``airflow standalone`` with a home and
ports of its own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pgdrill.host.process import end_marked, mark_process

PROJECT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
CALL_SECONDS = 120.0  # on a machine with all cores busy
GLANCE_SECONDS = 1.0
POLL_SECONDS = 0.5  # Airflow tells of state by its API only
COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class Airflow:
    """One standalone Airflow. ``environment`` brings Connections and configuration."""

    home: Path
    environment: dict[str, str] = field(repr=False)
    dags_folder: Path = PROJECT / "dags"
    plugins_folder: Path = PROJECT / "plugins"
    ports: list[int] = field(default_factory=lambda: free_ports(4))

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def full_environment(self) -> dict[str, str]:
        """Everything the Airflow processes get."""
        api, worker_log, trigger_log, scheduler = self.ports
        settings = {
            "CORE__DAGS_FOLDER": self.dags_folder,
            "CORE__PLUGINS_FOLDER": self.plugins_folder,
            "CORE__LOAD_EXAMPLES": False,
            "CORE__PARALLELISM": 4,
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "API__HOST": "127.0.0.1",
            "API__PORT": api,
            "API__BASE_URL": self.url,
            "API__WORKERS": 1,
            "LOGGING__WORKER_LOG_SERVER_PORT": worker_log,
            "LOGGING__TRIGGER_LOG_SERVER_PORT": trigger_log,
            "SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": scheduler,
            "SCHEDULER__ENABLE_HEALTH_CHECK": False,
            "DAG_PROCESSOR__REFRESH_INTERVAL": 30,
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
        }
        clean = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
        path = f"{Path(sys.executable).parent}:{clean.get('PATH', '')}"
        own = {f"AIRFLOW__{key}": str(value) for key, value in settings.items()}
        return {**clean, **own, "AIRFLOW_HOME": str(self.home), "PATH": path, **self.environment}

    @property
    def login(self) -> tuple[str, str]:
        """User and password, as Airflow made them up at its first start."""
        file = self.home / "simple_auth_manager_passwords.json.generated"
        user, password = next(iter(json.loads(file.read_text()).items()))
        return user, password

    def launch(self) -> None:
        """Start all processes; :meth:`wait_healthy` says when they are there."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "standalone.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "standalone"],
                env=self.full_environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        mark_process(self.pid_file, process.pid)

    @property
    def pid_file(self) -> Path:
        """Its process, for whoever has to end it."""
        return self.home / "standalone.pid"

    def wait_healthy(
        self,
        timeout_seconds: float = START_SECONDS,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Return when every component reports healthy; tells of each that has become so."""
        told: set[str] = set()
        deadline = time.monotonic() + timeout_seconds
        states: dict[str, Any] = {}
        while time.monotonic() < deadline:
            try:
                answer = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
                states = {name: answer.get(name, {}).get("status") for name in COMPONENTS}
                for name in [
                    name for name in COMPONENTS if states[name] == "healthy" and name not in told
                ]:
                    told.add(name)
                    on_change(name)
                if all(state == "healthy" for state in states.values()):
                    return
            except (httpx.HTTPError, ValueError):
                states = {"api": "no answer yet"}
            time.sleep(POLL_SECONDS)
        tail = (self.home / "standalone.log").read_text(errors="replace")[-3000:]
        raise TimeoutError(
            f"Airflow is not healthy after {timeout_seconds:.0f} s ({states}); its log"
            f" ends:\n{tail}"
        )

    def stop(self) -> None:
        """End every process of it, their children too."""
        end_marked(self.pid_file)

    def call(
        self, method: str, path: str, *, timeout_seconds: float = CALL_SECONDS, **more: Any
    ) -> Any:
        """One call of the public API; an error with Airflow's own words."""
        user, password = self.login
        with httpx.Client(base_url=self.url, timeout=timeout_seconds) as client:
            token = client.post("/auth/token", json={"username": user, "password": password})
            token.raise_for_status()
            client.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
            answer = client.request(method, f"/api/v2{path}", **more)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def wait_for_dag(self, dag_id: str, timeout_seconds: float = 60) -> None:
        """Return when the DAG has been parsed; its import error otherwise."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if any(dag["dag_id"] == dag_id for dag in self.call("GET", "/dags?limit=100")["dags"]):
                return
            errors = self.call("GET", "/importErrors")["import_errors"]
            if errors:
                raise RuntimeError(f"{errors[0]['filename']}: {errors[0]['stack_trace'][-1500:]}")
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"no DAG {dag_id} after {timeout_seconds:.0f} s")

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run as a click on Trigger does, and give its run id."""
        self.wait_for_dag(dag_id)
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        body = {"logical_date": None, "conf": conf or {}}
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)
        return str(run["dag_run_id"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """The state of each task of a run."""
        found = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] or "waiting" for task in found}

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        on_change: Callable[[str, str], None],
        timeout_seconds: float = 900,
    ) -> str:
        """Wait for a run's end, telling of every task's change; gives ``success`` or ``failed``."""
        deadline = time.monotonic() + timeout_seconds
        before: dict[str, str] = {}
        while time.monotonic() < deadline:
            states = self.task_states(dag_id, run_id)
            for task, state in states.items():
                if before.get(task) != state:
                    on_change(task, state)
            before = states
            state = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
            if state in ("success", "failed"):
                return str(state)
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"{dag_id} {run_id} still runs after {timeout_seconds:.0f} s: {before}")

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.call("GET", path)["value"]

    def log_lines(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> Iterator[str]:
        """The lines of a task's log, and what an exception said."""
        for entry in self._log(dag_id, run_id, task_id, attempt):
            yield str(entry.get("event", entry)) if isinstance(entry, dict) else str(entry)
            for error in (entry.get("error_detail") or ()) if isinstance(entry, dict) else ():
                yield f"{error['exc_type']}: {error['exc_value']}"

    def own_lines(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> Iterator[str]:
        """The lines of a task's log that pgdrill wrote; for whoever would rather have none than
        wait.
        """
        for entry in self._log(dag_id, run_id, task_id, attempt, timeout_seconds=GLANCE_SECONDS):
            if isinstance(entry, dict) and str(entry.get("logger", "")).startswith("pgdrill"):
                yield str(entry.get("event", ""))

    def _log(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        attempt: int,
        timeout_seconds: float = CALL_SECONDS,
    ) -> list[Any]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        headers = {"Accept": "application/json"}
        return list(
            self.call("GET", path, headers=headers, timeout_seconds=timeout_seconds)["content"]
        )
