"""From a target to a promoted server: planning, preflight, restore, WAL prefetch, proof of the
instant.
"""
