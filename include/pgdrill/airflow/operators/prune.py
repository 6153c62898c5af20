"""Plans what is kept of a cluster's backups, and deletes the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.branch import BaseBranchOperator

from pgdrill.airflow.connections import access_for
from pgdrill.airflow.failing import airflow_errors
from pgdrill.airflow.operators.base import ClusterOperator
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.results import as_xcom

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.access import Access


FIRST_RUN = "first-run"  # the refusal that a person's approval lets pass


class PruneOperator(ClusterOperator):
    """Plan retention, and with ``apply`` carry the plan out.

    A dry run's XCom: ``digest``, ``text`` (the plan in Markdown), ``steps``, ``first_run`` and the plan's data. Of a real
    one: counts, bytes freed, promises before and after, the next deletion's day.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param apply: delete; without it the plan is only shown.
    :param approved: the digest of the plan that is meant; another one is refused. Empty: whatever the plan is (templated).
    :param approval: what a person answered who was asked; empty: nobody was. A first run needs one (templated).
    :param also: full names of leftovers, or other clusters' backups, to be removed if old enough (templated).
    :param allow: refusals that may pass (templated). Both count in runs by hand only.
    """

    template_fields: Sequence[str] = (*ClusterOperator.template_fields, "approved", "approval", "also", "allow")

    def __init__(
        self, *, apply: bool = False, approved: str = "", approval: str = "", also: str | Sequence[str] = (), allow: str | Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.apply = apply
        self.approved = approved
        self.approval = approval
        self.also = also
        self.allow = allow

    def execute(self, context: Context) -> dict[str, Any]:
        """Look, and perhaps delete."""
        from pgdrill.retention.apply import prune

        with airflow_errors():
            access = access_for(self.cluster)
            by_hand = started_by_hand(context)
            also, allow = (_words(self.also), _words(self.allow)) if by_hand else ((), ())
            if not self.apply:
                return self._plan(access, also, allow)
            allow = (*allow, FIRST_RUN) if self.approval else allow
            result = prune(
                access, self.runner, named=also, allowed=allow, approved=self.approved, progress=ProgressLog(self.log)
            )
        self.log.info(
            "%d base backups, %d WAL segments and %d dumps deleted, %.1f MB; %d base backups stay", result.backups_deleted,
            result.wal_segments_deleted, result.dumps_deleted, result.freed_bytes / 1e6, result.backups_kept,
        )  # fmt: skip
        for words in result.kept:
            self.log.warning("kept after all: %s", words)
        for name in (*result.locked, *result.left):
            self.log.warning("still there: %s", name)
        return as_xcom(result)

    def _plan(self, access: Access, also: tuple[str, ...], allow: tuple[str, ...]) -> dict[str, Any]:
        from pgdrill.retention import journal
        from pgdrill.retention.apply import look
        from pgdrill.retention.hygiene import findings
        from pgdrill.retention.show import plan_data, plan_markdown

        outlook = look(access, self.runner, named=also, allowed=allow)
        text = plan_markdown(access.cluster.name, outlook)
        for line in text.splitlines():
            self.log.info("%s", line)
        found = findings(outlook.inventory, access.cluster.retention, outlook.now)
        first = not any(run.state == "done" for run in journal.runs(access))
        return {**plan_data(access.cluster.name, outlook, found), "text": text, "first_run": first}


class ChoosePruneOperator(BaseBranchOperator):
    """What comes after the plan: a person's approval, the deletion, or nothing.

    Runs by hand with ``apply``, and the first run ever, are approved by a person. Others go on by themselves, within the
    library's guards. Runs by hand without ``apply`` end with the plan. Something held that is gone goes to the deletion, which
    says so and is red, whatever the plan.

    :param planned: task id of the plan.
    :param approve: task id of the approval.
    :param prune: task id of the deletion.
    """

    def __init__(self, *, planned: str, approve: str, prune: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planned, self.approve, self.prune = planned, approve, prune

    def choose_branch(self, context: Context) -> list[str]:
        """The task that comes next, if any."""
        plan = context["ti"].xcom_pull(task_ids=self.planned)
        by_hand = started_by_hand(context)
        dry = by_hand and not context["params"].get("apply")
        refused = {refusal["reason"] for refusal in plan["refusals"]} - {FIRST_RUN}
        if "hold-broken" in refused or (refused and not dry):
            return [self.prune]  # which says what is refused, and is red, even if nothing is to go
        if dry or not plan["steps"]:
            self.log.info("nothing is deleted: %s", "a dry run" if plan["steps"] else "nothing is to go")
            return []
        return [self.approve] if by_hand or plan["first_run"] else [self.prune]


def started_by_hand(context: Context) -> bool:
    """Whether a person started this run; what Airflow starts has nobody who looked at its parameters."""
    return str(getattr(context["dag_run"].run_type, "value", context["dag_run"].run_type)) == "manual"


def _words(given: str | Sequence[str]) -> tuple[str, ...]:
    """From a list, or from a template's text."""
    return tuple(word.strip() for word in (given.split(",") if isinstance(given, str) else given) if word.strip())
