"""Restores a logical dump, asks every question of it, and destroys it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.xcom import BaseXCom

from pgdrill.airflow.drill_id import drill_id_of
from pgdrill.airflow.exceptions import airflow_errors, failure
from pgdrill.airflow.operators.base import DRILL_ID, DrillOperator, log_report, trigger_of
from pgdrill.airflow.operators.destroy_cluster import TRUE, DestroyClusterOperator
from pgdrill.airflow.operators.restore_cluster import end_at_once
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.waiting import waiting
from pgdrill.airflow.xcom import DestroyResult

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.access import Access
    from pgdrill.logical.report import DumpReport
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
        """Restore and check."""
        from pgdrill.airflow.attempts import next_dump_attempt
        from pgdrill.drill import destroy_stage
        from pgdrill.logical.drill import Options, drill_dump
        from pgdrill.logical.terminal import print_report
        from pgdrill.recovery.workspace import Workspace

        with airflow_errors():
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
                keep=str(self.keep).lower() in TRUE,
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
            result = as_result(access, report)
        log_report(self.log, lambda console: print_report(report, console))
        if report.verdict != "passed":
            # Before the task fails: a failed check leaves its figures, too.
            context["ti"].xcom_push(BaseXCom.XCOM_RETURN_KEY, result)
            raise failure(_explanation(report), retryable=report.worth_another_try)
        return result

    def on_kill(self) -> None:
        """End the server, which is no child of this task, and what restores into it."""
        if self._at_work:
            access, workspace = self._at_work
            end_at_once(workspace.server(access))
        super().on_kill()


class DestroyDumpClusterOperator(DestroyClusterOperator):
    """End the server a dump was restored into and remove its folder, whatever became of the
    restore. Done already is fine.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: which drill; from the DAG run by default (templated).
    :param keep: leave it for a look, if it runs (templated).
    """

    def _kept(self, access: Access, drill_id: str) -> DestroyResult | None:
        from pgdrill.logical.store import local_report
        from pgdrill.recovery.workspace import Workspace

        workspace = Workspace.of(access, drill_id)
        server, report = workspace.server(access), local_report(access, drill_id)
        if server.process() is None or report is None or report.restored is None:
            self.log.warning("nothing to keep: no restored server runs in %s", workspace.directory)
            return None
        self.log.warning(
            "kept %s on this host until %s; look at it with: psql %r",
            workspace.directory,
            report.restored.expires_at.isoformat(timespec="seconds"),
            server.conninfo(),
        )
        return DestroyResult(
            drill_id,
            self.cluster,
            False,
            str(workspace.directory),
            server.conninfo(),
            report.restored.expires_at,
            None,
        )


def as_result(access: Access, report: DumpReport) -> dict[str, Any]:
    """A report's figures as JSON's own types."""
    from collections import Counter

    from pgdrill.logical.build_forecast import forecast
    from pgdrill.logical.store import builds

    count = Counter(result.status for result in report.results)
    known = builds(access) if report.builds else []
    forecasts = [
        one for build in report.builds if (one := forecast(known, build.index, 4 * build.rows))
    ]
    built = [
        {
            "index": build.index,
            "rows": build.rows,
            "seconds": build.seconds,
            "rows_per_second": build.rows_per_second,
            "fits_in_memory": build.fits,
        }
        for build in report.builds
    ]
    findings = [
        {
            "check": r.name,
            "status": r.status,
            "thing": r.thing,
            "found": r.value,
            "expected": r.threshold,
            "message": r.message,
            "hint": r.hint,
        }
        for r in report.results
        if r.status != "pass"
    ]
    return {
        "drill_id": report.drill_id,
        "dump_id": report.dump_id,
        "cluster": report.cluster,
        "verdict": report.verdict,
        "reason": report.reason,
        **{f"checks_{status}": count[status] for status in ("pass", "warn", "fail", "skip")},
        "stored_bytes": report.stored_bytes,
        **report.timings.model_dump(mode="json"),
        "rows_per_second": report.timings.rows_per_second,
        "builds": built,
        "forecast_at_four_times_the_rows": [asdict(one) for one in forecasts],
        "statements": len(report.statements),
        "rewritten": sorted({name for run in report.statements for name in run.rewritten}),
        "findings": findings,
        "report": report.kept_at[-1] if report.kept_at else "",
    }


def _explanation(report: DumpReport) -> str:
    from pgdrill.reports.grouping import by_telling

    head = f"dump {report.dump_id} of cluster {report.cluster}: {report.verdict} ({report.reason})"
    cause = ""
    if trouble := report.restore.trouble or report.checks.trouble:
        cause = (
            f"{trouble.thing}: found {trouble.found}; expected {trouble.expected}. Hint:"
            f" {trouble.hint}."
        )
    elif worst := next((r for r in by_telling(report.results) if r.status == "fail"), None):
        cause = (
            f"{worst.name} {worst.thing}: found {worst.value} {worst.message}; expected"
            f" {worst.threshold}. Hint: {worst.hint}."
        )
    return f"{head}. {cause} Report: {report.kept_at[-1] if report.kept_at else 'none'}"
