"""The fence around a restored server.

The server writes its own folder, reads what PostgreSQL needs, and reaches nothing else.
"""
