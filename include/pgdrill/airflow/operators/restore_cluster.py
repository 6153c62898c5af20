"""Restores a backup into a cluster of its own and leaves that running."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pgdrill.airflow.drill_id import drill_id_of
from pgdrill.airflow.exceptions import airflow_errors, failure
from pgdrill.airflow.operators.base import DRILL_ID, DrillOperator, trigger_of
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.waiting import waiting
from pgdrill.airflow.xcom import RestoreResult, as_xcom, explanation

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.access import Access
    from pgdrill.postgres.server import LocalServer
    from pgdrill.recovery.workspace import Workspace

KILL_SECONDS = 1.5  # of the five between on_kill and SIGKILL; the tool may need three


class RestoreClusterOperator(DrillOperator):
    """Look at production, restore the backup and its WAL, and promote. Production is never changed.

    XCom: where the restored cluster is, the LSN it reached and the seconds of every step; under
    ``drill_id``, and first of all, which drill it is: a *Clear* begins another one, and what the
    one before found stays. The report is written whatever happens. While another job holds the
    cluster, the task waits without a slot, for as long as a drill may take.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: which drill; from the DAG run by default (templated).
    :param backup: a base backup's full name, or ``LATEST`` (templated).
    :param target: where recovery is to stop: ``latest``, ``random``, ``alternate`` (these two by
        turns), ``time:2026-11-20T11:00:00Z``, ``before:`` and a time, ``lsn:0/3000028`` or
        ``name:a_restore_point`` (templated).
    """

    template_fields: Sequence[str] = (*DrillOperator.template_fields, "backup", "target")

    def __init__(self, *, backup: str = "LATEST", target: str = "latest", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backup = backup
        self.target = target
        self._at_work: tuple[Access, Workspace] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Restore the backup, replay WAL to the target, and promote.

        What an earlier try of the run left is destroyed first.

        :raises AirflowFailException: if the backup is at fault, or another try changes nothing.
        """
        from pgdrill.airflow.attempts import next_attempt
        from pgdrill.drill import destroy_stage, restore_stage
        from pgdrill.recovery.workspace import Workspace

        with airflow_errors(), self._leaving_nothing_when_killed():
            access = self.go_on(context)
            attempt = next_attempt(access, drill_id_of(self.drill_id), trigger_of(context))
            context["ti"].xcom_push(key=DRILL_ID, value=attempt.drill_id)
            self._at_work = access, Workspace.of(access, attempt.drill_id)
            if attempt.earlier and Workspace.of(access, attempt.earlier).directory.exists():
                destroy_stage(access, attempt.earlier)  # kept for a look, or not destroyed yet
            with waiting(context, access.cluster.drill.timeout_seconds, self.log):
                report = restore_stage(
                    access,
                    attempt.drill_id,
                    target=self.target,
                    backup=self.backup,
                    trigger=trigger_of(context),
                    earlier=attempt.earlier,
                    runner=self.runner,
                    progress=ProgressLog(self.log),
                )
        if report.restore.trouble:
            raise failure(*explanation(report), retryable=report.worth_another_try)
        result = RestoreResult.of(report)
        self.log.info(
            "%s restored to %s, running after %.1f s, in %s",
            result.backup,
            result.reached_lsn,
            result.time_to_running_seconds or 0,
            result.directory,
        )
        return as_xcom(result)

    def on_kill(self) -> None:
        """End the half-restored server, which is no child of this task, and the tool."""
        if self._at_work:
            access, workspace = self._at_work
            end_at_once(workspace.server(access))
        super().on_kill()

    @contextlib.contextmanager
    def _leaving_nothing_when_killed(self) -> Iterator[None]:
        """A task marked failed goes on for seconds after its teardown ran, and must not leave what
        it wrote since.
        """
        try:
            yield
        finally:
            if self.runner.stopped and self._at_work:
                self._at_work[1].destroy()


def end_at_once(server: LocalServer, seconds: float = KILL_SECONDS) -> None:
    """End a throw-away server within a known time: an immediate shutdown, then SIGKILL to all of
    its processes.
    """
    import signal

    import psutil

    process = server.process()
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGQUIT)
        for one in psutil.wait_procs(family, timeout=seconds)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
