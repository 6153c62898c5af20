"""Plans what is kept of a cluster's backups, and deletes the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.branch import BaseBranchOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from pgdrill.airflow.exceptions import airflow_errors
from pgdrill.airflow.operators.base import ClusterOperator, run_type
from pgdrill.airflow.operators.destroy_cluster import TRUE
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.waiting import waiting
from pgdrill.airflow.xcom import as_xcom
from pgdrill.errors import ConfigError, Problem
from pgdrill.text import one_line

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.access import Access


FIRST_RUN = "first-run"  # the refusal that a person's approval lets pass
SHOWN_PLAN = "shown_plan"


class PruneOperator(ClusterOperator):
    """Plan retention, and with ``apply`` carry the plan out.

    A dry run's XCom: ``digest``, ``text`` (the plan in Markdown), ``steps``, ``first_run`` and the
    plan's data. Of a real one: counts, bytes freed, promises before and after, the next deletion's
    day.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param apply: delete; without it the plan is only shown.
    :param approved: the digest of the plan that is meant; another one is refused. Empty: whatever
        the plan is (templated).
    :param approval: the digest of the plan that a person has approved; empty: nobody has. Runs by
        hand and a first run delete nothing without one of the very plan that is meant, whatever was
        marked or cleared (templated).
    :param first_run: whether this is the first run (templated).
    :param also: full names of leftovers, or other clusters' backups, to be removed if old enough
        (templated).
    :param allow: refusals that may pass (templated). Both count in runs by hand only.
    """

    template_fields: Sequence[str] = (
        *ClusterOperator.template_fields,
        "approved",
        "approval",
        "first_run",
        "also",
        "allow",
    )

    def __init__(
        self,
        *,
        apply: bool = False,
        approved: str = "",
        approval: str = "",
        first_run: bool | str = False,
        also: str | Sequence[str] = (),
        allow: str | Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.apply = apply
        self.approved = approved
        self.approval = approval
        self.first_run = first_run
        self.also = also
        self.allow = allow

    def execute(self, context: Context) -> dict[str, Any]:
        """Look, and perhaps delete."""
        from pgdrill.retention.prune import prune

        with airflow_errors():
            access = self.as_configured(context)
            by_hand = started_by_hand(context)
            also, allow = (_words(self.also), _words(self.allow)) if by_hand else ((), ())
            if not self.apply:
                return self._plan(access, also, allow)
            if by_hand or str(self.first_run).lower() in TRUE:
                self._approved_by_a_person()
                allow = (*allow, FIRST_RUN)
            with waiting(context, 6 * access.cluster.retention.timeout_seconds, self.log):
                result = prune(
                    access,
                    self.runner,
                    named=also,
                    allowed=allow,
                    approved=self.approved,
                    progress=ProgressLog(self.log),
                )
        self.log.info(
            "%d base backups, %d WAL segments and %d dumps deleted, %.1f MB; %d base backups stay",
            result.backups_deleted,
            result.wal_segments_deleted,
            result.dumps_deleted,
            result.freed_bytes / 1e6,
            result.backups_kept,
        )
        for words in result.kept:
            self.log.warning("kept after all: %s", words)
        for name in (*result.locked, *result.left):
            self.log.warning("still there: %s", name)
        return as_xcom(result)

    def _approved_by_a_person(self) -> None:
        if not self.approval or self.approval != self.approved:
            raise ConfigError(
                "not-approved",
                f"plan {self.approved or 'without a digest'}",
                found=(
                    f"an approval of plan {self.approval}" if self.approval else "nobody's approval"
                ),
                expected="a person's, of this very plan",
                hint="clear `plan` with what follows, and answer in `approve`",
            )

    def _plan(
        self, access: Access, also: tuple[str, ...], allow: tuple[str, ...]
    ) -> dict[str, Any]:
        from pgdrill.repository import prune_runs
        from pgdrill.retention.formats import plan_data, plan_markdown
        from pgdrill.retention.prune import look
        from pgdrill.retention.terminal import plan_lines
        from pgdrill.retention.unused_objects import findings

        outlook = look(access, self.runner, named=also, allowed=allow)
        text = plan_markdown(access.cluster.name, outlook)
        found = findings(outlook.inventory, access.cluster.retention, outlook.now)
        for line in plan_lines(access.cluster.name, outlook, found):
            self.log.info("%s", line)
        first = not any(run.state == "done" for run in prune_runs.runs(access.reports))
        return {**plan_data(access.cluster.name, outlook, found), "text": text, "first_run": first}


class ChoosePruneOperator(BaseBranchOperator):
    """What comes after the plan: a person's approval, the deletion, or nothing.

    Runs by hand with ``apply``, and the first run ever, are approved by a person. Others go on by
    themselves, within the library's guards. Runs by hand without ``apply`` end with the plan. A
    plan that is refused goes to the task that says why; something held that is gone does so
    whatever the plan.

    :param planned: task id of the plan.
    :param approve: task id of the approval.
    :param prune: task id of the deletion.
    :param refused: task id of what says why nothing is deleted.
    """

    def __init__(
        self, *, planned: str, approve: str, prune: str, refused: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.planned, self.approve, self.prune, self.refused = planned, approve, prune, refused

    def choose_branch(self, context: Context) -> list[str]:
        """The task that comes next, if any."""
        plan = context["ti"].xcom_pull(task_ids=self.planned)
        by_hand = started_by_hand(context)
        dry = by_hand and not context["params"].get("apply")
        refused = {refusal["reason"] for refusal in plan["refusals"]} - {FIRST_RUN}
        if "hold-broken" in refused or (refused and not dry):
            return [self.refused]  # even if nothing is to go
        if dry or not plan["steps"]:
            self.log.info(
                "nothing is deleted: %s", "a dry run" if plan["steps"] else "nothing is to go"
            )
            return []
        return [self.approve] if by_hand or plan["first_run"] else [self.prune]


class RefusedOperator(BaseOperator):
    """Say why a plan is not carried out, each refusal with its figures and its hint, and fail:
    nothing is deleted meanwhile.

    :param planned: task id of the plan.
    """

    def __init__(self, *, planned: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planned = planned

    def execute(self, context: Context) -> None:
        """Say it."""
        refused = [
            Problem(**words) for words in context["ti"].xcom_pull(task_ids=self.planned)["refusals"]
        ]
        for problem in refused:
            self.log.warning("%s: %s", problem.reason, problem)
        told = "; ".join(f"{problem.reason}: {problem}" for problem in refused)
        raise AirflowFailException(
            one_line(
                f"nothing is deleted and nothing promised is lost, for the plan is refused. {told}"
            )
        )


def approved_plan(answer: Mapping[str, Any] | None) -> str:
    """The digest of the plan that a person approved; empty where nobody did."""
    return (
        str(answer.get("plan", ""))
        if answer and answer.get("chosen_options") == [ApprovalOperator.APPROVE]
        else ""
    )


class ApprovePlanOperator(ApprovalOperator):
    """Show a plan to a person and wait.

    The answer is of that plan and of no other that was made meanwhile.

    :param plan: the digest of the plan that is shown (templated).
    """

    template_fields: Collection[str] = (*ApprovalOperator.template_fields, "plan")

    def __init__(self, *, plan: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> Any:
        """Ask, and remember of what."""
        context["task_state_store"].set(SHOWN_PLAN, self.plan)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Hand on the answer with the plan that was shown."""
        answer = super().execute_complete(context, event)
        return {**answer, "plan": context["task_state_store"].get(SHOWN_PLAN)}


def started_by_hand(context: Context) -> bool:
    """Whether a person started this run; what Airflow starts has nobody who looked at its
    parameters.
    """
    return run_type(context) == "manual"


def _words(given: str | Sequence[str]) -> tuple[str, ...]:
    """From a list, or from a template's text."""
    return tuple(
        word.strip()
        for word in (given.split(",") if isinstance(given, str) else given)
        if word.strip()
    )
