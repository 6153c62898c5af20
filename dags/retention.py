"""## Retention

Deletes what no promise needs: base backups, WAL, logical dumps. It runs **after each base backup**,
and by hand. What is promised stands in `dr.toml`; each promise holds by itself, and at every moment
while things are deleted.

| Task | What it does | Red means |
| --- | --- | --- |
| `plan` | says what would go, what stays and why, and each promise before and after | repository or report store could not be read |
| `choose` | on to the approval, to the deletion, to `refused`, or to nothing | |
| `refused` | says why the plan is not carried out: nothing is deleted, and nothing promised is lost | see below |
| `approve` | shows the plan to a person and waits: in runs by hand, and in the first one | |
| `prune` | asks the tool what it would delete, compares, deletes, looks again | see below |

### When `refused` or `prune` is red

Nothing promised is lost, and both can be cleared at any time: what was done is not done again. The
end of the log names what was found and the hint.

| The message says | Do |
| --- | --- |
| `too-much` | look at the plan; if it is meant, run it by hand with that refusal allowed, and approve |
| `wal-gap` | take a base backup now; find out what lost the WAL |
| `nothing-proved` | let a drill pass first |
| `inventory-incomplete` | a backup's description cannot be read: restore it, or remove that backup by hand |
| `missing` | backups or dumps that are known were not seen: check prefix, bucket, region and keys; what was deleted on purpose is let go by hand with `missing` allowed |
| `wal-missing` | no WAL beside base backups, or less than a drill has replayed: check the same, and what deletes there; if it is lost, take a base backup now |
| `no-backups` | nothing is there: check the same; take the first backup |
| `first-run` | no memory of earlier runs: if there were some, restore the report store; else approve |
| `hold-broken` | something held is gone: find out what deleted it, restore it from the bucket's versions, or take the hold off |
| `promise-worse` | the plan would break a promise: nothing was deleted; report it |
| `plan-changed` | the plan is no longer the approved one: clear `plan` with what follows, and look again |
| `no-such-name` | *Remove these, too* names what is not there: copy the name from the plan |
| `lease-lost` | the run stood still for longer than its lease: clear it |
| `clock` | this host's clock and the store's differ by minutes: set it (NTP) |
| `busy` | a job of the cluster runs, and did not end in time: the message names it |
| `tool-differs` | the tool would delete more than the plan: nothing was deleted in that step; report it |
| `not-approved` | nobody has approved this very plan: clear `plan` with what follows, and answer in `approve` |
| held by … | it was waited for six times `retention.timeout_seconds`: see what hangs, and end it |

A task that is *up for reschedule* waits, without a slot, for a backup or a drill; its log says for
which one.

### By hand

*Trigger* shows the plan and deletes nothing unless *Delete* is on; then it waits in `approve` until
somebody has read it. What you let pass (*allow*) stands there with its figures. Nothing but that
answer deletes: marking `approve` as a success, or skipping it, does not.
"""  # noqa: E501

from __future__ import annotations

from pgdrill.airflow.dags import draw, retention_dag

draw(retention_dag, __doc__)
