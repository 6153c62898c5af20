"""pgdrill: backs up PostgreSQL + pgvector and proves, by restoring, that vector search is right."""

from __future__ import annotations

import functools


@functools.cache
def version() -> str:
    """Return the version that pyproject.toml names.

    It is the installed one, or that of the sources where they only lie on the path.
    """
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("pgdrill")
    except PackageNotFoundError:
        return _of_sources()


def _of_sources() -> str:
    import tomllib
    from pathlib import Path

    try:
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))[
            "project"
        ]
    except (OSError, KeyError, IndexError, tomllib.TOMLDecodeError):
        return "unknown"
    return str(project["version"]) if project.get("name") == "pgdrill" else "unknown"
