"""The watch over backups between two drills: what is looked at, and what was found."""
