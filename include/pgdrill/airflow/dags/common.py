"""What the DAGs of a cluster have in common.

Pools: the tasks stay in ``default_pool``. A task whose pool does not exist is never run and says
nothing, and that is the wrong way for a backup to fail; one drill and one backup at a time for a
cluster is the library's own lock, which holds for the CLI, too. A task that meets it gives its slot
back and is started again (see :mod:`pgdrill.airflow.waiting`).

Retries: ``retries`` is for what did not answer. What another try cannot change (a damaged backup, a
red verdict, a wrong configuration) is raised as ``AirflowFailException``, which Airflow never tries
again.

Time limits: every step has its own in ``dr.toml``, which ends it with an explanation;
``execution_timeout`` stands behind them. There is no ``dagrun_timeout``: it would skip the
teardown, too.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import (
    Asset,
    CronTriggerTimetable,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
)

from pgdrill.airflow.callbacks import run_failed, run_passed, task_failed
from pgdrill.airflow.deadlines import deadlines
from pgdrill.airflow.schedules import check_schedule

if TYPE_CHECKING:
    from pgdrill.config import Cluster, Settings

MARGIN = timedelta(minutes=15)  # beyond the library's own limits: listing, baseline, report
BEGIN_TIMEOUT = timedelta(minutes=5)
APPROVAL_TIMEOUT = timedelta(days=3)  # then nothing is deleted
DESTROY_TIMEOUT = timedelta(minutes=30)  # removing terabytes takes its time

# A step that used up its whole time would do so again.
NO_RETRY_AFTER_TIMEOUT = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception="airflow.sdk.exceptions.AirflowTaskTimeout",
            action=RetryAction.FAIL,
            reason="ran into its time limit; another try would, too",
        )
    ]
)


def base_backups(cluster: Cluster) -> Asset:
    """The cluster's base backups, as data that the backup writes and the drill reads.

    Named by the cluster and not by the repository's URL, so that moving the repository does not
    make two assets of it. ``x-`` marks a scheme as one's own: for any other, Airflow looks for its
    owner and imports every provider (2.9 s).
    """
    return Asset(
        name=f"{cluster.name}.base_backups",
        uri=f"x-pgdrill://{cluster.name}/base_backups",
        group="pgdrill",
    )


def common(cluster: Cluster, tag: str, doc: str | None, *, job: str) -> dict[str, Any]:
    """What every DAG of a cluster is made with. ``doc``: the DAG file's own words; ``job``: its
    name without the cluster's.
    """
    made = untold(cluster, tag, doc)
    return {
        **made,
        "deadline": deadlines(cluster, job),
        "on_success_callback": run_passed,
        # A task that is killed tells nobody; its run does.
        "on_failure_callback": run_failed,
        "default_args": {"on_failure_callback": task_failed, **made["default_args"]},
    }


def untold(cluster: Cluster, tag: str, doc: str | None) -> dict[str, Any]:
    """The same, without telling of its runs: for what a health check tells of by its age."""
    return {
        "tags": {"pgdrill", tag, cluster.name},
        "doc_md": document(doc, cluster),
        # No start_date: with one, unpausing would at once start the run that was due last. Nobody
        # expects a backup or a restore of a production cluster from flipping a switch; Trigger is
        # there for that.
        "catchup": False,
        "max_active_runs": 1,
        "default_args": {
            "owner": cluster.owner,
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_policy": NO_RETRY_AFTER_TIMEOUT,
            **({"queue": cluster.server.queue} if cluster.server.queue else {}),
        },
    }


def cron(cluster: Cluster, settings: Settings, section: str) -> CronTriggerTimetable:
    """The section's schedule, in UTC; one that is no cron is an error in the file and says
    where."""
    expression = check_schedule(cluster, section, settings.source)
    # Zero: unpausing starts no run that was due a while ago (False does, within a tenth of the
    # period).
    return CronTriggerTimetable(expression, timezone="UTC", run_immediately=timedelta(0))


def document(doc: str | None, cluster: Cluster) -> str:
    """The DAG file's own words, and what is configured for this cluster."""
    rows = {
        "Cluster": f"`{cluster.name}`, data directory `{cluster.server.data_directory}`",
        "Repository": f"`{cluster.repository.url}`, by {cluster.repository.tool}",
        "Reports": f"`{cluster.reports_url or cluster.repository.url + '/pgdrill'}/reports`",
        "Drills work in": f"`{cluster.state_directory}`",
        "Promised": (
            f"vector search correct within {cluster.drill.rto_seconds:g} s (RTO),"
            f" at most {cluster.drill.rpo_seconds:g} s of work lost (RPO)"
        ),
        "Owner": cluster.owner,
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"{(doc or '').strip()}\n\n### As configured\n\n| | |\n| --- | --- |\n{table}\n"


def worded(pattern: str, *words: str, may_be_empty: bool = False) -> dict[str, Any]:
    """Return a JSON schema for text that fits the pattern; what does not is refused as being none
    of ``words``, without the pattern.

    Airflow answers with what the schema's failing part says, and that part in full: the first of
    several, so a type comes behind these words, or the pattern is shown with it. The words stand in
    a list, which no text is equal to: else they were taken themselves. Python's ``$`` lets a
    newline follow, which nobody means.

    :param may_be_empty: nothing at all is taken, too; else the form has a red star.
    """
    kinds = _kinds("string", may_be_empty)
    fits = {"type": kinds, "pattern": f"{pattern}(?!\\n)"}
    return {"if": fits, "else": {"enum": [list(words)]}, "type": kinds}


def listed(words: str, *, may_be_empty: bool = False, **items: Any) -> dict[str, Any]:
    """Return a JSON schema for a list of such items; what is none is told in words, as above."""
    kinds = _kinds("array", may_be_empty)
    return {"if": {"type": kinds}, "else": {"enum": [[words]]}, "type": kinds, "items": items}


def yes_or_no() -> dict[str, Any]:
    """Return a JSON schema for a tick; none is no."""
    kinds = _kinds("boolean", True)
    return {"if": {"type": kinds}, "else": {"enum": [["true", "false"]]}, "type": kinds}


def _kinds(kind: str, may_be_empty: bool) -> str | list[str]:
    """Return the type of a value. The form marks whatever may not be null as required."""
    return [kind, "null"] if may_be_empty else kind


def form_param(default: Any, *, title: str, text: str, **schema: Any) -> Param:
    """Return a field of a DAG's form.

    The form shows a description instead of Markdown, and folds sections: neither is set.

    :param text: what it means and what may be given, in Markdown.
    """
    return Param(default, **schema, title=title, description_md=text)


def keep_param() -> Param:
    """Return the field that asks whether a person wants to look at the restored cluster."""
    return form_param(
        False,
        **yes_or_no(),
        title="Keep the restored cluster for a look",
        text=(
            "The task `destroy` then says where it is. Its server ends by itself at the drill's"
            " time limit; until then other drills of this cluster wait. Clearing `destroy` ends it."
        ),
    )
