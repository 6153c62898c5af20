"""Checks a restored cluster, vector search first, and gives the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.xcom import BaseXCom

from pgdrill.airflow.drill_id import drill_id_of
from pgdrill.airflow.exceptions import airflow_errors, failure
from pgdrill.airflow.operators.base import DrillOperator, log_report
from pgdrill.airflow.operators.templates import names_of
from pgdrill.airflow.xcom import DrillResult, as_xcom, explanation

if TYPE_CHECKING:
    from airflow.sdk import Context

# As pgdrill.checks.FAMILIES, which costs numpy to import.
FAMILIES = ("recovery", "vectors", "embeddings", "search", "schema", "integrity", "rows", "own")


class CheckRestoreOperator(DrillOperator):
    """Ask the restored cluster every check. Anything but the verdict *passed* fails the task.

    XCom, also of a failed task: verdict and reason, the sentence for a manager, counts of answers,
    recall@10 of every index, the seconds to correct vector search, the measured RPO, and every
    answer that is no pass with its hint.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: which drill; from the DAG run by default (templated).
    :param families: the list of the families of checks to ask (templated). A drill without
        ``vectors`` is never green.
    """

    template_fields: Sequence[str] = (*DrillOperator.template_fields, "families")
    template_fields_renderers: ClassVar[dict[str, str]] = {"families": "json"}
    native_fields: ClassVar[frozenset[str]] = frozenset({"families"})

    def __init__(self, *, families: str | Sequence[str] = FAMILIES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.families = families

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask the checks, write their answers into the drill's report, and log it.

        :raises AirflowFailException: if the verdict is not *passed* and another try cannot change
            it; the figures are in XCom all the same.
        """
        from pgdrill.drill import check_stage
        from pgdrill.reports.one_screen import print_report

        with airflow_errors():
            families = self._chosen()
            access = self.go_on(context)
            report = check_stage(
                access, drill_id_of(self.drill_id), families=families, runner=self.runner
            )
        result = as_xcom(DrillResult.of(report))
        log_report(self.log, lambda console: print_report(report, console))
        if report.verdict != "passed":
            # Before raising: a failed check keeps its figures.
            context["ti"].xcom_push(key=BaseXCom.XCOM_RETURN_KEY, value=result)
            raise failure(*explanation(report), retryable=report.worth_another_try)
        return result

    def _chosen(self) -> tuple[str, ...]:
        from pgdrill.errors import ConfigError

        chosen = names_of(self.families, "families")
        if not chosen or not set(chosen) <= set(FAMILIES):
            raise ConfigError(
                "bad-families",
                "families of checks",
                found=", ".join(chosen) or "none",
                expected=", ".join(FAMILIES),
                hint="choose from these",
            )
        return chosen


class VectorSearchCheckOperator(CheckRestoreOperator):
    """Check that vector search on the restored cluster is right, and with it all else by which a
    drill is green: :class:`CheckRestoreOperator` under the name of what it proves first.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: which drill; from the DAG run by default (templated).
    :param families: the list of the families of checks to ask (templated).
    """
