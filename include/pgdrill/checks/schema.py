"""Schema: are the extensions the ones production has?"""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.baseline import extension_versions as versions
from pgdrill.checks.base import Context, Outcome, check


@check(
    "extension-versions", "schema",
    passing="every extension has the version recorded from production",
    mend="install the recorded version on the drill host; if production was upgraded, drill again from a fresh baseline",
)  # fmt: skip
def extension_versions(context: Context) -> Iterator[Outcome]:
    """One answer for each extension of each database, recorded or restored."""
    if context.baseline is None:
        yield Outcome("skip", "extensions", message="no baseline to compare with")
        return
    for name, recorded in context.baseline.databases.items():
        with context.connect(name) as connection:
            found = versions(connection)
        for extension in sorted(recorded.extensions.keys() | found.keys()):
            before, now = recorded.extensions.get(extension, "none"), found.get(extension, "none")
            yield Outcome("pass" if before == now else "fail", f"{name}.{extension}", now, f"= {before}")


AVAILABLE = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"


@check(
    "pgvector-library", "schema", required=False,
    passing="the pgvector installed here is the one the database was last updated for",
    mend="install the same pgvector package as production has: other versions read the same index by other code",
)  # fmt: skip
def pgvector_library(context: Context) -> Iterator[Outcome]:
    """The installed library's version against the extension's."""
    for name in context.databases:
        with context.connect(name) as connection:
            extension = versions(connection).get("vector")
            row = connection.execute(AVAILABLE).fetchone()
        if extension:
            installed = row[0] if row else "none"
            yield Outcome("pass" if installed == extension else "warn", name, installed, f"= {extension}")
