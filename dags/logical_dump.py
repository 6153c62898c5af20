"""## Logical dump

Dumps every configured database with `pg_dump` and **restores the dump before it counts**: on the
**1st of each month at 04:00 UTC** unless `dr.toml` says otherwise. It is the portable copy: for
another major version, another vendor, one lost table, a rehearsal of a schema migration. It is no
replacement for base backups: it has no WAL and no point in time.

| Task | What it does | Red means |
| --- | --- | --- |
| `dump` | one snapshot a database, streamed to the store, manifest last | nothing was left that looks like a dump |
| `restore` | restores into a throw-away cluster, builds the vector indexes, checks, rehearses migrations | see below |
| `passed` | reads the newest verdict on this run's dump, whatever was cleared | the dump does not count |
| `destroy` | ends the restored server, removes its folder, whatever happened | something is left on the drill's host |

### When `restore` is red

| Verdict | Means | Do |
| --- | --- | --- |
| **failed** | what came back is **not what was dumped**, or does not restore, or a migration failed | follow the hint at the end of the log; trigger this DAG again |
| **could not verify** | this host, the store or a program was at fault, or something required was left unasked | mend that, then clear `restore`, which dumps again, too |

A task that is *up for reschedule* waits, without a slot, for the drill or dump that is at work; its
log says for which one, until when, and when it gives up (`dump.timeout_seconds`).

### By hand

*Trigger* offers other databases, another PostgreSQL to restore into, a folder of migrations to
rehearse, and to keep the restored cluster for a look. Clearing the task `destroy` ends a kept one
(without Airflow: `pgdrill destroy`). There is no backfill.
"""  # noqa: E501

from __future__ import annotations

from pgdrill.airflow.dags import draw, logical_dump_dag

draw(logical_dump_dag, __doc__)
