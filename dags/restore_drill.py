"""## Restore drill

Restores the latest base backup and its WAL into a throw-away cluster and proves, with figures, that vector search on it
is right: **Friday at 11:00 UTC** unless `dr.toml` says otherwise, to the latest state and to a random instant of the past by
turns. Production is read and never changed, except for one restore point.

| Task | What it does | Red means |
| --- | --- | --- |
| `begin` | checks configuration, Connections and parameters | nothing was started: correct what the message names |
| `restore` | notes what production holds, restores, replays to the target, promotes | see below |
| `check` | compares rows, schema and recovery point with production, and index search with exact search | see below |
| `passed` | nothing; green exactly if the drill passed | the drill did not pass |
| `destroy` | ends the restored server, removes its folder, whatever happened | something is left on the drill's host |

### When `restore` or `check` is red

The last line of the log has the verdict, the first cause with its mend, and where the report is. The report is written
before the task fails.

| Verdict | Means | Do |
| --- | --- | --- |
| **failed** | the backup, or what came back from it, is **not right** | treat it as having no backup since the last green drill: take a base backup now (`<cluster>.base_backup`), then drill again and follow the mend |
| **could not verify** | the drill's host, the store or a tool was at fault, or something required was left unasked | mend that, then clear `restore`; until a drill passes, nothing is proved |

What did not answer is tried again by itself; a damaged backup is not. Clearing `check` restores again first.

### By hand

*Trigger* offers another backup, another recovery target, fewer checks, and to keep the restored cluster for a look.
"""

from __future__ import annotations

from pgdrill.airflow.dags import restore_drill_dag
from pgdrill.config import load

settings = load()
for cluster in settings.clusters.values():
    restore_drill_dag(cluster, settings, doc=__doc__)
