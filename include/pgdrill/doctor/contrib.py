"""The examination of PostgreSQL's contrib extensions that a drill makes on the restored server.

It makes no others.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, not_asked, red
from pgdrill.doctor.subject import Subject

NEEDED = ("amcheck", "pg_prewarm")  # every index, and every page, is read through them


@examination(
    "contrib",
    "drill",
    green="the contrib extensions that drills make on restored servers are installed here",
    needs=("programs",),
    jobs=("drill", "dump"),
    hint=(
        "install PostgreSQL's contrib package here (Debian: it is part of postgresql-18), or set"
        " server.bin_dir to a PostgreSQL that has it"
    ),
    example="/opt/postgres/share/extension: no amcheck, pg_prewarm",
)
def contrib(subject: Subject) -> Iterator[Finding]:
    """Look for the control files of the extensions.

    Without them a drill restores and compares, and ends as *could not verify*.
    """
    places = subject.access.binaries.places
    if places is None:
        yield not_asked(
            "contrib",
            f"no pg_config in {subject.access.binaries.folder}, which says where extensions lie:"
            " the restored server tells",
        )
        return
    folder = places[1] / "extension"
    missing = [name for name in NEEDED if not (folder / f"{name}.control").is_file()]
    if missing:
        yield red(
            f"{folder}",
            f"no {', '.join(missing)}",
            f"{' and '.join(NEEDED)}: no drill passes without them",
        )
    else:
        yield green(f"{folder}", ", ".join(NEEDED))
