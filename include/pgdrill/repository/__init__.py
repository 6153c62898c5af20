"""The repository: its objects, the backup tools' layouts and commands, WAL ranges and leases.

It also tells what can be restored.
"""
