"""Restores a logical dump, asks every check of it, and destroys it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.xcom import BaseXCom

from pgdrill.airflow.drill_id import drill_id_of
from pgdrill.airflow.exceptions import airflow_errors, failure
from pgdrill.airflow.operators.base import DRILL_ID, DrillOperator, log_report, trigger_of
from pgdrill.airflow.operators.restore_cluster import end_at_once
from pgdrill.airflow.operators.templates import yes_or_no
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.waiting import waiting
from pgdrill.airflow.xcom import DumpRestoreResult, as_xcom, dump_explanation

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.access import Access
    from pgdrill.recovery.workspace import Workspace


class LogicalRestoreOperator(DrillOperator):
    """Restore a dump into a throw-away cluster, rehearse migrations on it if wanted, check it,
    destroy it.

    Anything but the verdict *passed* fails the task. XCom, also of a failed task: verdict and
    reason, sizes, seconds, rows/s, each vector index's build and forecast, counts of answers, and
    every answer that is no pass with its hint.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: which drill; from the DAG run by default (templated).
    :param dump: a dump's id, or ``LATEST`` (templated).
    :param bin_dir: another PostgreSQL's programs, for restoring into a newer version; empty:
        ``server.bin_dir`` (templated).
    :param migrations: a folder of migrations to rehearse, on this host; empty: none (templated).
    :param keep: leave the restored cluster for a look; its server ends at the drill's time limit
        (templated).
    """

    template_fields: Sequence[str] = (
        *DrillOperator.template_fields,
        "dump",
        "bin_dir",
        "migrations",
        "keep",
    )
    native_fields: ClassVar[frozenset[str]] = frozenset({"keep"})

    def __init__(
        self,
        *,
        dump: str = "LATEST",
        bin_dir: str = "",
        migrations: str = "",
        keep: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dump = dump
        self.bin_dir = bin_dir
        self.migrations = migrations
        self.keep = keep
        self._at_work: tuple[Access, Workspace] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Restore the dump, rehearse the migrations, ask every check, and write the report.

        :raises AirflowFailException: if the verdict is not *passed* and another try cannot change
            it; the figures are in XCom all the same.
        """
        from pgdrill.airflow.attempts import next_dump_attempt
        from pgdrill.drill import destroy_stage
        from pgdrill.logical.drill import Options, drill_dump
        from pgdrill.logical.terminal import print_report
        from pgdrill.recovery.workspace import Workspace

        with airflow_errors():
            keep = yes_or_no(self.keep, "keep")
            access = self.go_on(context)
            attempt = next_dump_attempt(access, drill_id_of(self.drill_id))
            drill_id = attempt.drill_id
            context["ti"].xcom_push(key=DRILL_ID, value=drill_id)
            self._at_work = access, Workspace.of(access, drill_id)
            if attempt.earlier and Workspace.of(access, attempt.earlier).directory.exists():
                destroy_stage(access, attempt.earlier)  # kept for a look
            options = Options(
                dump=self.dump,
                bin_dir=self.bin_dir,
                migrations=Path(self.migrations) if self.migrations else None,
                keep=keep,
                trigger=trigger_of(context),
            )
            with waiting(context, access.cluster.dump.timeout_seconds, self.log):
                report = drill_dump(
                    access,
                    options,
                    drill_id=drill_id,
                    runner=self.runner,
                    progress=ProgressLog(self.log),
                )
            result = as_xcom(DumpRestoreResult.of(access, report))
        log_report(self.log, lambda console: print_report(report, console))
        if report.verdict != "passed":
            # Before the task fails: a failed check leaves its figures, too.
            context["ti"].xcom_push(BaseXCom.XCOM_RETURN_KEY, result)
            raise failure(*dump_explanation(report), retryable=report.worth_another_try)
        return result

    def on_kill(self) -> None:
        """End the server, which is no child of this task, and what restores into it."""
        if self._at_work:
            access, workspace = self._at_work
            end_at_once(workspace.server(access))
        super().on_kill()
