"""The way from a recovery target to a promoted server: planning, restore, proof of the instant.

Preflight and the prefetching of WAL belong to it.
"""
