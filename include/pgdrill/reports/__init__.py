"""Results: what a drill found, where it is kept, how it is shown, which backups results and records
tell of, and the forecast of the next.
"""
