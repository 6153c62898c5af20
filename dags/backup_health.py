"""## Backup health

Looks **every five minutes** whether the backups are what `dr.toml` promises, and alerts: archiving,
WAL without a gap, the standby, the ages of base backup, dump, drill and retention, the window, this
Airflow itself. It does the work of `pgdrill watch` where that does not run, and watches it where it
does; what one of them has told, the other does not tell again.

Whom it tells is in `[[alerts.channels]]` of `dr.toml`. Without a channel **nobody is told**: the
log says so, and XCom (`nobody`).

### When the task is red

It could **not look at anything**, or no alert could be remembered: the end of the log says why,
with a hint. The next run looks again; there is nothing to clear.

What it finds does not make it red. That is told by alerts, and stands in the log and in XCom
(`worst`). `pgdrill health` shows the same.

### By hand

*Trigger* looks now. Planned work: `pgdrill silence CLUSTER --for 2h --why …`, and the DAG goes on.
Paused, it looks no more, and only a running `pgdrill watch` says so.
"""

from __future__ import annotations

from pgdrill.airflow.dags import backup_health_dag, draw

draw(backup_health_dag, __doc__)
