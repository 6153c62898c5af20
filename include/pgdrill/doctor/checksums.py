"""The examination of page checksums.

Without them a drill cannot tell whether a page is as it was written.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, warn
from pgdrill.doctor.subject import Subject
from pgdrill.postgres.checksums import computes_none, switch_on


@examination(
    "checksums",
    "server",
    green="the server computes page checksums",
    needs=("login",),
    jobs=("backup", "drill"),
    hint=(
        "stop the server and run pg_checksums, or accept that pages are proved by amcheck, searches"
        " and content alone"
    ),
    example=(
        "data_checksums: off, wanted on: a drill cannot tell whether a page is as it was written"
    ),
)
def checksums(subject: Subject) -> Iterator[Finding]:
    """Ask whether the server computes page checksums.

    PostgreSQL before 18 makes clusters without them, unless told to.
    """
    server = subject.access.cluster.server
    if computes_none(subject.server):
        yield warn(
            "data_checksums",
            "off: nothing is damaged, and a drill cannot tell whether a page is as it was written",
            "on",
            switch_on(server.bin_dir, server.data_directory),
        )
    else:
        yield green("data_checksums", "on")
