"""Random damage to repositories and data directories of a small cluster."""
