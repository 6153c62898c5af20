"""A dump goes where a base backup cannot: into another major version, and another pgvector."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.errors import ConfigError
from pgdrill_demo.stack import binaries
from tests.integration.logical.conftest import Source, explained, pgserver


@pytest.fixture(scope="module", params=[16, 18])
def older(request: pytest.FixtureRequest) -> Iterator[Source]:
    """PostgreSQL 16, and 18, with an older pgvector, and one dump of each."""
    programs = pgserver(request.param)
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    made = Source(home, programs, f"file://{home}/store")
    try:
        made.create()
        made.dump()
        yield made
    finally:
        made.server.stop()
        shutil.rmtree(home, ignore_errors=True)


def test_it_is_restored_into_the_newest_version_and_what_is_newer_is_said(older: Source) -> None:
    report = older.drill(bin_dir=str(binaries().folder))
    assert report.verdict == "passed", explained(report)
    assert report.restored is None
    assert "vector 0.8.6 here, 0.8.5 when it was dumped" in report.notes
    answers = {
        one.thing: (one.status, one.value)
        for one in report.results
        if one.name == "dump-extensions"
    }
    assert answers["agents.vector"] == ("warn", "0.8.6")
    rows = next(one for one in report.results if one.name == "dump-rows" and one.status == "pass")
    assert rows.value == 1200 + 20 + 400 + 2 + 50 + 5 + 3


def test_an_older_pgvector_at_the_destination_is_named_before_any_byte(dumped: Source) -> None:
    report = dumped.drill(bin_dir=str(pgserver(18).folder))
    assert (report.verdict, report.reason) == ("could not verify", "restore: older-extension")
    assert report.restore.trouble
    assert (report.restore.trouble.found, report.timings.download_seconds) == (
        "version 0.8.5",
        None,
    )


def test_a_missing_extension_at_the_destination_is_named_before_any_byte(source: Source) -> None:
    source.sql("CREATE EXTENSION pg_trgm")
    try:
        source.dump()
    finally:
        source.sql("DROP EXTENSION pg_trgm")
    report = source.drill(bin_dir=str(pgserver(18).folder))
    assert report.reason == "restore: no-extension"
    assert report.restore.trouble
    assert "pg_trgm" in report.restore.trouble.thing
    assert report.timings.download_seconds is None


def test_an_index_option_that_the_destination_does_not_know_is_named_before_any_byte(
    source: Source,
) -> None:
    """As a dump of a later pgvector would have it: its manifest records an option that 0.8.6
    lacks."""
    from pgdrill.logical import manifest

    made = source.dump()
    index = made.databases[0].vector_indexes[0]
    made.databases[0].vector_indexes[0] = index.model_copy(
        update={"options": [*index.options, "quantize=4"]}
    )
    manifest.write(source.access, made)
    report = source.drill()
    assert report.reason == "restore: index-option"
    assert report.restore.trouble
    assert "quantize" in report.restore.trouble.found
    assert "public.items_hnsw" in report.restore.trouble.thing
    assert report.timings.download_seconds is None


def test_an_older_server_is_refused(dumped: Source) -> None:
    with pytest.raises(ConfigError, match="expected 18 or newer"):
        dumped.drill(bin_dir=str(pgserver(16).folder))
