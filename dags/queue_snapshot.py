"""## Queue snapshot

Copies the job queues in Redis (Bull, BullMQ) **every hour at minute 7** unless `dr.toml` says
otherwise, and **loads each copy before it counts**.

| Task | What it does | Red means |
| --- | --- | --- |
| `snapshot` | copies the server's data, from a replica where one keeps up; the record comes last | nothing was left that looks like a snapshot |
| `verify` | loads it into a throw-away server inside a fence, asks whether the queues hold together | see below |
| `prune` | keeps the newest good one of each promised hour and day, deletes the others | nothing more was deleted |

### When `verify` is red

| Verdict | Means | Do |
| --- | --- | --- |
| **failed** | the file does not load, or its queues **do not hold together**: ids without jobs, a counter that is behind, dead schedulers | follow the hint at the end of the log; look for the same on production |
| **could not verify** | this host, the store or a program was at fault | mend that, then clear `verify` |

### By hand

*Trigger* offers to load an earlier snapshot once more, and to delete nothing. Restoring is a
person's: `pgdrill queue restore` shows its plan first. There is no backfill.
"""  # noqa: E501

from __future__ import annotations

from pgdrill.airflow.dags import draw_queues, queue_snapshot_dag

draw_queues(queue_snapshot_dag, __doc__)
