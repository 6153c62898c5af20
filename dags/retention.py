"""## Retention

Deletes what no promise needs: base backups, WAL, logical dumps. It runs **after each base backup**, and by hand. What is
promised stands in `dr.toml`; each promise holds by itself, and at every moment while things are deleted.

| Task | What it does | Red means |
| --- | --- | --- |
| `plan` | says what would go, what stays and why, and each promise before and after | repository or report store could not be read |
| `choose` | on to the approval, to the deletion, to `refused`, or to nothing | |
| `refused` | says why the plan is not carried out: nothing is deleted, and nothing promised is lost | see below |
| `approve` | shows the plan to a person and waits: in runs by hand, and in the first one | |
| `prune` | asks the tool what it would delete, compares, deletes, looks again | see below |

### When `refused` or `prune` is red

Nothing promised is lost, and both can be cleared at any time: what was done is not done again. The last line of the log names
what was found and the mend.

| The message says | Do |
| --- | --- |
| `too-much` | look at the plan; if it is meant, run it by hand with that refusal allowed, and approve |
| `wal-gap` | take a base backup now; find out what lost the WAL |
| `nothing-proved` | let a drill pass first |
| `inventory-incomplete` | a backup's description cannot be read: restore it, or remove that backup by hand |
| `tool-differs` | the tool would delete more than the plan: nothing was deleted in that step; report it |
| `not-approved` | nobody has approved this very plan: clear `plan` with what follows, and answer in `approve` |
| held by … | it was waited for six times `retention.timeout_seconds`: see what hangs, and end it |

A task that is *up for reschedule* waits, without a slot, for a backup or a drill; its log says for which one.

### By hand

*Trigger* shows the plan and deletes nothing unless *Delete* is on; then it waits in `approve` until somebody has read it. What you let
pass (*allow*) stands there with its figures. Nothing but that answer deletes: marking `approve` as a success, or skipping it, does not.
"""

from __future__ import annotations

from pgdrill.airflow.dags import draw, retention_dag

draw(retention_dag, __doc__)
