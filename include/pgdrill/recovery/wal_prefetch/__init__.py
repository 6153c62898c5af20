"""WAL fetched ahead of recovery, so that delivering a segment is a mere rename.

It is read from the repository in bulk, checked, and laid out in a spool.

The module :mod:`order` says what to fetch, :mod:`server` is the process that does it (``python -m
pgdrill.recovery.wal_prefetch``), :mod:`client` starts, watches and ends that process, and
``spool.sh`` is what PostgreSQL's ``restore_command`` runs.
"""
