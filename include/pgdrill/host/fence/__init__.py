"""The fence around a restored server: it writes its own folder, reads what PostgreSQL needs, and
reaches nothing else.
"""
