"""The health of a cluster's backups between two drills: what is watched."""
