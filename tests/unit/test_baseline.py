"""The baseline: what counters allow, what survives being written, what is never in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from pgdrill.baseline import Baseline, Changes, TableState
from pgdrill.baseline.settle import _changes
from pgdrill.fingerprint import Fingerprint


def state(**more: object) -> TableState:
    values = {"content": None, "bytes": 8192, "filenode": 100, "estimated_rows": 10, "counters": Changes(inserted=5, updated=3, deleted=1)}
    return TableState.model_validate(values | more)


def row(filenode: int = 100, inserted: int = 5, updated: int = 3, deleted: int = 1) -> tuple[object, ...]:
    """As the listing gives it: name, oid, schema, table, filenode, bytes, counters, estimate."""
    return ("public.t", 1, "public", "t", filenode, 8192, inserted, updated, deleted, 10)


def test_what_was_written_since_is_the_counters_difference() -> None:
    assert _changes(state(), row(inserted=9, updated=3, deleted=4)) == Changes(inserted=4, updated=0, deleted=3)
    assert _changes(state(), row()) == Changes()


@pytest.mark.parametrize("now", [row(filenode=101), row(inserted=4), row(updated=0), row(deleted=0), row(0, 0, 0, 0)])
def test_no_bound_holds_for_a_table_rewritten_or_with_counters_reset(now: tuple[object, ...]) -> None:
    assert _changes(state(), now) is None


def test_updated_and_deleted_rows_are_not_where_they_were() -> None:
    assert Changes(inserted=9, updated=2, deleted=3).rewritten_rows == 5


def baseline(**more: object) -> Baseline:
    values = {
        "cluster": "agents", "taken_at": datetime(2026, 11, 20, 11, tzinfo=UTC), "system_identifier": 7711508868310993863,
        "timeline": 1, "settings": {}, "shared_objects": Fingerprint(**FINGERPRINT), "databases": {}, "lsn": "1/2000028",
    }  # fmt: skip
    return Baseline.model_validate(values | more)


FINGERPRINT = {name: {} for name in Fingerprint.model_fields}


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
