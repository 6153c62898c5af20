"""Examinations of the backup tool on this host.

Is it there, is its version known to work, and what do its own variables say?
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, red, unknown, warn
from pgdrill.doctor.subject import Subject
from pgdrill.host.process import ProcessTimeout, Runner

VERSION = re.compile(r"\bv?(\d+)\.(\d+)(?:\.(\d+))?")


@examination(
    "tool",
    "tool",
    green="the backup tool is on this host, in a version that is known to work",
    hint="install the version that pgdrill was tried with, or set repository.binary in dr.toml",
    example="wal-g: not on PATH",
)
def version(subject: Subject) -> Iterator[Finding]:
    """Compare the tool's version with those that are known to work.

    A build of one's own tells no number: then its commands are looked at.
    """
    tool = subject.access.tool
    try:
        done = Runner().run(tool.version(), timeout_seconds=subject.seconds, quiet=True)
    except ProcessTimeout as error:
        yield unknown(tool.name, f"{error}", "its version")
        return
    said = " ".join((done.stdout or " ".join(done.last_lines)).split())
    tried = " or ".join(".".join(map(str, one)) for one in tool.facts.tried)
    if done.code:
        yield red(tool.name, f"--version ended with {done.ended}", "its version")
    elif missing := tool.lacking(
        lambda command: Runner().run(command, timeout_seconds=subject.seconds, quiet=True)
    ):
        yield red(
            tool.name,
            f"{said}, without {', '.join(missing)}",
            f"all that pgdrill uses; it was tried with {tried}",
        )
    elif not (number := VERSION.search(said)):
        yield green(
            tool.name, f"{said}: a build of its own, which has every command that pgdrill uses"
        )
    elif (found := tuple(int(part or 0) for part in number.groups())) in tool.facts.tried:
        yield green(tool.name, f"{said}, at {tool.version().argv[0]}")
    else:
        judge = red if found < tool.facts.oldest else warn
        yield judge(
            tool.name,
            said,
            f"{tried}, with which pgdrill was tried",
            f"install {tool.name} {tried}, or drill with this one and read the report",
        )


@examination(
    "tool-variables",
    "tool",
    green=(
        "no variable or file of the tool's own contradicts the configuration, and keys that it"
        " names can be read"
    ),
    hint="take it out of the environment of the worker, or let repository.url say the same",
    example="WALG_S3_PREFIX: another place than repository.url",
)
def variables(subject: Subject) -> Iterator[Finding]:
    """Look at the tool's variables, by their names.

    A value is shown of places alone, never of keys.
    """
    for found in subject.access.tool.settings():
        yield Finding(found.status, found.thing, found.found, found.expected, found.hint)
