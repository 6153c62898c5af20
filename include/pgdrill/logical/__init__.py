"""Logical dumps: taken from one snapshot, streamed to the store, and restored before they count."""
