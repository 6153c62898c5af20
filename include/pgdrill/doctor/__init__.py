"""The command ``pgdrill doctor``: all that a job would meet on this host, asked at once.

Importing this package registers the examinations.

Lines are data (:mod:`pgdrill.doctor.model`); :func:`diagnose` asks them all.
"""

from __future__ import annotations

from pgdrill.doctor import (
    airflow,
    archiving,
    bucket,
    checksums,
    clock,
    configuration,
    contrib,
    drills,
    folders,
    large_objects,
    programs,
    repository,
    rights,
    server,
    settings,
    tool,
)
from pgdrill.doctor.examination import EXAMINATIONS, PARTS, Examination, in_order
from pgdrill.doctor.model import JOBS, Diagnosis, Job, Line
from pgdrill.doctor.run import diagnose

__all__ = [
    "EXAMINATIONS",
    "JOBS",
    "PARTS",
    "Diagnosis",
    "Examination",
    "Job",
    "Line",
    "airflow",
    "archiving",
    "bucket",
    "checksums",
    "clock",
    "configuration",
    "contrib",
    "diagnose",
    "drills",
    "folders",
    "in_order",
    "large_objects",
    "programs",
    "repository",
    "rights",
    "server",
    "settings",
    "tool",
]
