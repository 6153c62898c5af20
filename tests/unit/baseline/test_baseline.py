"""The baseline: what counters allow, what survives being written, what is never in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from pgdrill.baseline import Baseline, Changes, TableState
from pgdrill.baseline.settle import counted_since
from pgdrill.baseline.tables import Table, in_order_of_sampling, read_whole
from pgdrill.config import Drill
from pgdrill.postgres.catalog_fingerprint import Fingerprint


def state(**more: object) -> TableState:
    values = {
        "content": None,
        "oid": 1,
        "bytes": 8192,
        "filenode": 100,
        "estimated_rows": 10,
        "counters": Changes(inserted=5, updated=3, deleted=1),
    }
    return TableState.model_validate(values | more)


def row(
    filenode: int = 100,
    inserted: int = 5,
    updated: int = 3,
    deleted: int = 1,
    *,
    name: str = "t",
    size: int = 8192,
    grant: str = "",
) -> Table:
    """As the listing gives it."""
    counters = Changes(inserted=inserted, updated=updated, deleted=deleted)
    return Table(
        f"public.{name}", 1, "public", name, filenode, size, size // 8192, 10, counters, 0, grant
    )


def test_what_was_written_since_is_the_counters_difference() -> None:
    assert counted_since(state(), row(inserted=9, updated=3, deleted=4)) == Changes(
        inserted=4, updated=0, deleted=3
    )
    assert counted_since(state(), row()) == Changes()


@pytest.mark.parametrize("now", [row(inserted=4), row(updated=0), row(deleted=0), row(0, 0, 0, 0)])
def test_no_bound_holds_for_a_table_with_counters_reset(now: Table) -> None:
    assert counted_since(state(), now) is None


def test_updated_and_deleted_rows_are_not_where_they_were() -> None:
    assert Changes(inserted=9, updated=2, deleted=3).rewritten_rows == 5


def test_the_largest_tables_are_the_first_that_are_only_sampled() -> None:
    tables = [
        row(name="small", size=10),
        row(name="large", size=100),
        row(name="middle", size=50),
        row(name="closed", size=1, grant="GRANT"),
    ]
    kept = {"baseline_table_bytes": 1000, "baseline_bytes": 1000}
    assert read_whole(tables, Drill.model_validate(kept)) == {
        "public.small",
        "public.middle",
        "public.large",
    }
    assert read_whole(tables, Drill.model_validate(kept | {"baseline_bytes": 100})) == {
        "public.small",
        "public.middle",
    }
    assert read_whole(tables, Drill.model_validate(kept | {"baseline_table_bytes": 49})) == {
        "public.small"
    }
    assert (
        read_whole(tables, Drill.model_validate(kept | {"baseline_bytes": 100}), spent_bytes=95)
        == set()
    )


def test_what_is_not_read_whole_is_sampled_first_and_then_what_is_written_most() -> None:
    tables = [
        row(name="quiet", updated=0, deleted=0),
        row(name="busy", updated=900),
        row(name="large", updated=1),
    ]
    ordered = in_order_of_sampling(tables, {"public.quiet", "public.busy"})
    assert [table.plain for table in ordered] == ["large", "busy", "quiet"]


def baseline(**more: object) -> Baseline:
    values = {
        "cluster": "agents",
        "taken_at": datetime(2026, 11, 20, 11, tzinfo=UTC),
        "system_identifier": 7711508868310993863,
        "timeline": 1,
        "settings": {},
        "shared_objects": Fingerprint(**FINGERPRINT),
        "databases": {},
        "lsn": "1/2000028",
    }
    return Baseline.model_validate(values | more)


FINGERPRINT = {name: {} for name, field in Fingerprint.model_fields.items() if field.is_required()}


def test_a_baseline_survives_being_written_with_its_numbers_whole() -> None:
    before = baseline()
    assert Baseline.model_validate_json(before.model_dump_json()) == before
    assert json.loads(before.model_dump_json())["system_identifier"] == 7711508868310993863
    assert before.lsn_position == 0x102000028


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError):
        baseline(rows_of_customers=["Ada"])


def test_the_size_of_a_segment_is_productions() -> None:
    assert baseline(settings={"wal_segment_size": "67108864"}).segment_bytes == 64 * 2**20
    assert baseline().segment_bytes == 16 * 2**20
