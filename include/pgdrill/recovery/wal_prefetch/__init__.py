"""WAL fetched ahead of recovery: read from the repository in bulk, checked, and laid out for a mere
rename.

:mod:`order` says what to fetch, :mod:`server` is the process that does it (``python -m
pgdrill.recovery.wal_prefetch``), :mod:`client` starts, watches and ends that process, and
``spool.sh`` is what PostgreSQL's ``restore_command`` runs.
"""
