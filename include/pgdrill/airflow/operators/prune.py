"""Plans what is kept of a cluster's backups, and deletes the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pgdrill.airflow.exceptions import airflow_errors
from pgdrill.airflow.operators.base import ClusterOperator, started_by_hand
from pgdrill.airflow.operators.templates import names_of, yes_or_no
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.waiting import waiting
from pgdrill.airflow.xcom import as_xcom
from pgdrill.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.access import Access


FIRST_RUN = "first-run"  # the refusal that a person's approval lets pass


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
    :param also: the list of the full names of leftovers, or other clusters' backups, to be removed
        if old enough (templated).
    :param allow: the list of refusals that may pass (templated). Both count in runs by hand only.
    """

    template_fields: Sequence[str] = (
        *ClusterOperator.template_fields,
        "approved",
        "approval",
        "first_run",
        "also",
        "allow",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"also": "json", "allow": "json"}
    native_fields: ClassVar[frozenset[str]] = frozenset({"first_run", "also", "allow"})

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
        """Log the plan; or carry it out, and log what is gone and what is still there.

        :raises AirflowFailException: if a plan is refused, or nobody has approved what only a
            person may approve. Nothing promised is lost.
        """
        from pgdrill.retention.prune import prune

        with airflow_errors():
            access = self.as_configured(context)
            by_hand = started_by_hand(context)
            also, allow = names_of(self.also, "also"), names_of(self.allow, "allow")
            if not by_hand:
                also = allow = ()
            if not self.apply:
                return self._plan(access, also, allow)
            if by_hand or yes_or_no(self.first_run, "first_run"):
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
