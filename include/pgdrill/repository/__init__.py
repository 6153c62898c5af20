"""What is in the bucket: objects, the backup tools' layouts and commands, WAL ranges, leases,
retention's ledger and runs, what can be restored.
"""
