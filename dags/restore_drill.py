"""## Restore drill

Restores the latest base backup and its WAL into a throw-away cluster and proves, with figures, that
vector search on it is right: **Friday at 11:00 UTC** unless `dr.toml` says otherwise, to the latest
state and to a random instant of the past by turns. Production is read and never changed, except for
one restore point.

| Task | What it does | Red means |
| --- | --- | --- |
| `begin` | checks configuration and parameters, and logs in to production | nothing was started: correct what the message names |
| `restore` | notes what production holds, restores, replays to the target, promotes | see below |
| `check` | compares rows, schema and recovery point with production, and index search with exact search | see below |
| `passed` | reads the newest verdict of this run's drill, whatever was cleared | the drill did not pass |
| `destroy` | ends the restored server, removes its folder, whatever happened | something is left on the drill's host |

### When `restore` or `check` is red

The end of the log has the verdict, the first cause, its hint, and where the report is, a line each.
The report is written before the task fails.

| Verdict | Means | Do |
| --- | --- | --- |
| **failed** | the backup, or what came back from it, is **not right** | treat it as having no backup since the last green drill: take a base backup now (`<cluster>.base_backup`), then drill again and follow the hint |
| **could not verify** | the drill's host, the store or a tool was at fault, or something required was left unasked | mend that, then clear `restore`; until a drill passes, nothing is proved |

What did not answer is tried again by itself; a damaged backup is not. A task that is *up for
reschedule* waits, without a slot, for the drill that holds the cluster; its log says for which one,
until when, and when it gives up (`drill.timeout_seconds`).

**Clear** whatever you like: it is a new drill, with a number behind the run's id, and the report of
the one before stays. Clearing `check` restores again first. `restore` by itself leaves what came
back unasked, so the run is red: clear `check` instead.

Production that refuses the login is red: a password that was changed must be changed in the
Connection, too. Where nobody listens at all, the drill goes on without production and says so;
after `drill.without_production` such drills in a row none is green.

### By hand

*Trigger* offers another backup, another recovery target, fewer checks, and to keep the restored
cluster for a look. Clearing the task `destroy` ends a kept one (without Airflow: `pgdrill
destroy`). A backfill drills each date itself: it restores that instant.
"""  # noqa: E501

from __future__ import annotations

from pgdrill.airflow.dags import draw, restore_drill_dag

draw(restore_drill_dag, __doc__)
