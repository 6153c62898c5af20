"""Examinations of the configuration.

Its own part is what ``pgdrill config check`` looks at, on whatever host. What it names has to be
here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from pgdrill.airflow.schedules import SECTIONS, check_schedule
from pgdrill.checks.custom_sql import read_checks
from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, not_asked, red, warn
from pgdrill.doctor.subject import Subject
from pgdrill.reports.deviations import today

PART = "configuration"


@examination(
    "schedules",
    PART,
    green="the schedules of backup, drill and dump are cron expressions of five fields",
    hint="correct the schedule in dr.toml",
    example="dr.toml [clusters.agents.drill] schedule: '0 25 * * 5'",
)
def schedules(subject: Subject) -> Iterator[Finding]:
    """Check the schedules. An error is worded as the DAGs word it."""
    cluster = subject.access.cluster
    found = {section: check_schedule(cluster, section, cluster.home) for section in SECTIONS}
    yield green(
        "cron, UTC", ", ".join(f"{section} {expression}" for section, expression in found.items())
    )


@examination(
    "own-checks",
    PART,
    green="every *.sql of checks_directory can be read, and asks one question",
    jobs=("drill",),
    hint="correct the line that is named; docs/how-to/own-checks.md has the keys",
    example="checks/bad.sql, line 2: unknown key 'expcet'",
)
def own_checks(subject: Subject) -> Iterator[Finding]:
    """Read the own checks, and yield one line for each that is broken."""
    cluster = subject.access.cluster
    good, broken = read_checks(cluster)
    for error in broken:
        words = error.problem
        yield Finding("red", words.thing, words.found, words.expected, words.hint, words.reason)
    if not broken:
        yield green(f"{cluster.home / cluster.checks_directory}", f"{len(good)} checks")


@examination(
    "known-deviations",
    PART,
    green="no accepted deviation is over",
    jobs=("drill",),
    hint="mend what was accepted, or set a later `until` in dr.toml",
    example="canary of items.embedding: accepted until 2026-01-31",
)
def known_deviations(subject: Subject) -> Iterator[Finding]:
    """Look for deviations that are over: they are red again in the next drill."""
    accepted = subject.access.cluster.deviations
    over = [one for one in accepted if one.until < today()]
    for one in over:
        yield warn(
            f"{one.check} of {one.object}",
            f"accepted until {one.until}",
            "today or later: it is red again in the next drill",
        )
    if not over:
        yield green("deviations", f"{len(accepted)} accepted, none over")


@examination(
    "application-test",
    "drill",
    green="the program of application_test is there, and its folder",
    jobs=("drill",),
    hint="install the program, or correct application_test.command in dr.toml",
    example="application_test.command: no program pytest",
)
def application_test(subject: Subject) -> Iterator[Finding]:
    """Look for the test's program on PATH and in its folder, as it is started."""
    cluster = subject.access.cluster
    test = cluster.application_test
    if not test.command:
        yield not_asked("application_test", "no command is configured")
        return
    folder = cluster.home / test.working_directory
    if not folder.is_dir():
        yield red(
            "application_test.working_directory",
            f"no folder {folder}",
            "the folder in which the test runs",
            f"`mkdir {folder}`, or correct it in dr.toml",
        )
        return
    program = test.command[0]
    found = shutil.which(program) or ((folder / program).is_file() and f"{folder / program}")
    if found:
        yield green("application_test.command", f"{found}")
    else:
        yield red("application_test.command", f"no program {program}", "an executable program")


@examination(
    "embedder-key",
    "drill",
    green="the variable that holds the embedder's key is set",
    jobs=("drill",),
    hint="set the variable in the worker's environment (never in dr.toml)",
    example="embeddings.api_key_variable: OPENAI_API_KEY is not set",
)
def embedder_key(subject: Subject) -> Iterator[Finding]:
    """Look whether the embedder's key is set. Its value is nobody's business."""
    name = subject.access.cluster.embeddings.api_key_variable
    if not name:
        yield not_asked("embeddings.api_key_variable", "no key is configured")
    elif os.environ.get(name):
        yield green("embeddings.api_key_variable", f"{name} is set")
    else:
        yield red("embeddings.api_key_variable", f"{name} is not set", "the embedder's key in it")
