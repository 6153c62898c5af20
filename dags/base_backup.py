"""## Base backup

Takes a base backup of the cluster with its backup tool, **Sunday at 02:00 UTC** unless `dr.toml`
says otherwise.

1. Checks that the server that answers is the one configured and that it archives its WAL.
2. Runs the tool beside the data directory and shows its lines in the task's log.
3. Reads the new backup back from the listing, and compares every part of it: an exit code of 0
   proves nothing.
4. Waits until the WAL that the backup needs has been archived.
5. Records all parts with their sizes, and what production held, beside the backups.

The XCom of `backup` has name, LSNs, sizes and rate; the asset `<cluster>.base_backups` gets an
event with the same.

### When the task is red

There is **no new backup to rely on**; older ones are untouched. The end of the log names what
was found, what was expected and the hint. Do that, then clear the task.

| The message says | Do |
| --- | --- |
| `no PostgreSQL data directory` | the task ran on another host than the data directory: correct the worker or the path |
| archiving fails, or WAL was not archived in time | mend `archive_command` first: without WAL a base backup is worth nothing |
| no answer from the store, or the server | it was tried three times; look at the network, then clear the task |
| missing or changed parts | something besides pgdrill writes to the bucket: find out what, then clear the task |
| held by another backup | it was waited for all of `backup.timeout_seconds`: see what hangs, and end it |

A task that is *up for reschedule* waits, without a slot, for another backup or a prune; its log
says for which one.

### By hand

*Trigger* starts one now: before an upgrade, after a failover, after a change of the backup tool.
Unpausing starts nothing by itself. There is no backfill: what is taken today is of today.
"""  # noqa: E501

from __future__ import annotations

from pgdrill.airflow.dags import base_backup_dag, draw

draw(base_backup_dag, __doc__)
