"""Examinations of PostgreSQL's programs on this host, and of the fence around them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, red, warn
from pgdrill.doctor.subject import Subject
from pgdrill.host.fence.choose import choose

PROGRAMS = (
    "postgres",
    "initdb",
    "pg_controldata",
    "pg_waldump",
    "pg_dump",
    "pg_dumpall",
    "pg_restore",
)


@examination(
    "programs",
    "folders",
    green="server.bin_dir has the programs of a server, and they run",
    needs=(),
    hint=(
        "install PostgreSQL's server package, and set server.bin_dir in dr.toml to the folder that"
        " holds `postgres`"
    ),
    example="/usr/lib/postgresql/18/bin: no initdb, pg_waldump",
)
def programs(subject: Subject) -> Iterator[Finding]:
    """Look for each program, and ask ``postgres`` for its version."""
    binaries = subject.access.binaries
    missing = [name for name in PROGRAMS if not (binaries.folder / name).is_file()]
    if missing:
        yield red(f"{binaries.folder}", f"no {', '.join(missing)}", f"{', '.join(PROGRAMS)}")
    else:
        yield green(f"{binaries.folder}", binaries.output("postgres", "--version").strip())


@examination(
    "major-version",
    "folders",
    green="the programs are of the server's major version",
    needs=("programs", "login"),
    hint="install that major version here, and set server.bin_dir to it",
    example="/usr/lib/postgresql/17/bin: PostgreSQL 17, wanted 18",
)
def major_version(subject: Subject) -> Iterator[Finding]:
    """Compare the programs' major version with the server's.

    A restored data directory is read by its own version alone.
    """
    here, there = subject.access.binaries.major_version, subject.server.info.server_version // 10000
    folder = f"{subject.access.binaries.folder}"
    if here == there:
        yield green(folder, f"PostgreSQL {here}, as the server")
    else:
        yield red(
            folder,
            f"PostgreSQL {here}",
            f"{there}, as the server",
            f"install PostgreSQL {there} here, and set server.bin_dir to its folder of programs",
        )


@examination(
    "fence",
    "fence",
    green="this host gives a fence around restored servers, tried with PostgreSQL itself",
    needs=("programs",),
    jobs=("drill", "dump"),
    hint="docs/explanation/security.md says what each fence takes",
    example=(
        "a fence around the restored server: namespaces: Operation not permitted; landlock:"
        " version 2"
    ),
)
def fence(subject: Subject) -> Iterator[Finding]:
    """Try the fence in a folder of its own.

    It lies below the work directory where that can be written.
    """
    drill = subject.access.cluster.drill
    with tempfile.TemporaryDirectory(
        prefix="pgdrill-doctor-", dir=_place(drill.work_directory)
    ) as name:
        folders = [Path(name) / one for one in ("cluster", "conf", "root")]
        for folder in folders:
            folder.mkdir(mode=0o700)
        cluster, conf, root = folders
        found = choose(
            drill.fence,
            programs=subject.access.binaries.folder,
            writable=(cluster,),
            readable=(conf, *drill.fence_readable),
            root=root,
        )
    if drill.fence == "none":
        yield warn(
            'drill.fence = "none"',
            found.shown,
            "a fence: whoever owns a table can leave code in it",
            f'set `fence = "auto"` below [clusters.{subject.name}.drill]',
        )
    else:
        yield green(f"drill.fence = {drill.fence!r}", found.shown)


def _place(work: Path) -> Path | None:
    """Return where a drill works, or None for the place of temporary files."""
    try:
        tempfile.TemporaryDirectory(dir=work).cleanup()
    except OSError:
        return None
    return work
