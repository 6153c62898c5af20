"""What is in the bucket: objects, the backup tools' layouts and commands, WAL ranges, leases, what
can be restored.
"""
