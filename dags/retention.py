"""## Retention

Deletes what no promise needs: base backups, WAL, logical dumps. It runs **after each base backup**, and by hand. What is
promised stands in `dr.toml`; each promise holds by itself, and at every moment while things are deleted.

| Task | What it does | Red means |
| --- | --- | --- |
| `plan` | says what would go, what stays and why, and each promise before and after | repository or report store could not be read |
| `choose` | on to the approval, to the deletion, or to nothing | |
| `approve` | shows the plan to a person and waits: in runs by hand, and in the first one | |
| `prune` | asks the tool what it would delete, compares, deletes, looks again | see below |

### When `prune` is red

Nothing promised is lost, and it can be cleared at any time: what was done is not done again. The last line of the log names
what was found and the mend.

| The message says | Do |
| --- | --- |
| `too-much` | look at the plan; if it is meant, run it by hand with that refusal allowed, and approve |
| `wal-gap` | take a base backup now; find out what lost the WAL |
| `nothing-proved` | let a drill pass first |
| `inventory-incomplete` | a backup's description cannot be read: restore it, or remove that backup by hand |
| `tool-differs` | the tool would delete more than the plan: nothing was deleted in that step; report it |
| held by … | a backup or drill is running: clear the task when it has ended |

### By hand

*Trigger* shows the plan and deletes nothing unless *Delete* is on; then it waits in `approve` until somebody has read it.
"""

from __future__ import annotations

from pgdrill.airflow.dags import retention_dag
from pgdrill.config import load

settings = load()
for cluster in settings.clusters.values():
    retention_dag(cluster, settings, doc=__doc__)
