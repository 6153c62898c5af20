"""Any row of an unwritten table, and damage in a busy one, is found and the table named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgdrill.baseline import Changes, settle, take_baseline
from pgdrill.postgres.row_digests import Shares, read_sample
from tests.detection.conftest import Copy

FAMILIES = ("rows",)

DAMAGES = {
    "a row deleted": (
        "DELETE FROM hc_appointments WHERE ctid = (SELECT min(ctid) FROM hc_appointments)",
        "hc_appointments",
    ),
    "a row added": (
        (
            "INSERT INTO hc_clinics (tenant_id, name, street, city) SELECT tenant_id, 'x', street,"
            " city FROM hc_clinics LIMIT 1"
        ),
        "hc_clinics",
    ),
    "rows swapped between tenants": (
        (
            "UPDATE documents d SET tenant_id = o.tenant_id FROM documents o WHERE d.ctid ="
            " (SELECT min(ctid) FROM documents) AND o.tenant_id <> d.tenant_id"
        ),
        "documents",
    ),
    "vectors of two rows swapped": (
        (
            "WITH two AS (SELECT id, embedding, row_number() OVER (ORDER BY id) n FROM embeddings"
            " LIMIT 2) UPDATE embeddings e SET embedding = o.embedding FROM two m, two o WHERE e.id"
            " = m.id AND m.n + o.n = 3"
        ),
        "embeddings",
    ),
    "a vector negated": (
        (
            "UPDATE embeddings SET embedding = embedding * (SELECT array_fill(-1,"
            " ARRAY[384])::vector) WHERE id = (SELECT min(id) FROM embeddings)"
        ),
        "embeddings",
    ),
    "vectors scaled": (
        (
            "UPDATE re_listings_embed SET embedding = embedding * (SELECT array_fill(2,"
            " ARRAY[1536])::vector)"
        ),
        "re_listings_embed",
    ),
    "a state table stale": (
        (
            "UPDATE hc_agent_state SET tenant_id = tenant_id WHERE ctid = (SELECT min(ctid) FROM"
            " hc_agent_state); DELETE FROM hc_agent_state WHERE ctid = (SELECT max(ctid) FROM"
            " hc_agent_state)"
        ),
        "hc_agent_state",
    ),
    "a table emptied": ("TRUNCATE re_plans CASCADE", "re_plans"),
    "a large object lost": (
        "SELECT lo_unlink((SELECT min(oid) FROM pg_largeobject_metadata))",
        "pg_largeobject",
    ),
    "a large object changed": (
        "SELECT lo_put((SELECT min(oid) FROM pg_largeobject_metadata), 0, 'x')",
        "pg_largeobject",
    ),
}


POSITIONS = {
    "a sequence behind": ("SELECT setval('invoice_number_seq', 1)", "invoice_number_seq 1 behind"),
    "a sequence restarted": ("ALTER SEQUENCE invoice_number_seq RESTART", "restarted"),
}


@pytest.mark.parametrize("kind", POSITIONS)
def test_a_sequence_that_would_give_numbers_out_twice_is_named(copy: Copy, kind: str) -> None:
    statement, words = POSITIONS[kind]
    copy.sql(statement)
    assert any(words in line for line in copy.red("rows").get("sequence-positions", [])), (
        copy.results("rows")
    )


def test_a_sequence_further_ahead_than_wal_holds_is_a_warning(copy: Copy) -> None:
    copy.sql("SELECT nextval('invoice_number_seq') FROM generate_series(1, 20)")
    assert "warn" not in {r.status for r in copy.results("rows") if r.name == "sequence-positions"}
    copy.sql("SELECT nextval('invoice_number_seq') FROM generate_series(1, 60)")
    assert [
        r.thing
        for r in copy.results("rows")
        if r.name == "sequence-positions" and r.status == "warn"
    ] == ["agents.public.invoice_number_seq"]


def test_a_state_table_that_is_stale_by_a_minute_is_named_with_the_rows(copy: Copy) -> None:
    """The copy is of a restore point; production's agents went on for a minute before the
    baseline's.
    """
    stack = copy.mould.stack
    with stack.connect() as production:
        production.execute("SET session_replication_role = replica")
        production.execute(
            "UPDATE hc_agent_state SET revision = revision + 1 WHERE ctid IN (SELECT ctid FROM"
            " hc_agent_state LIMIT 3)"
        )
    later = take_baseline(stack.access, restore_point="a-minute-later")
    settle(stack.access, later)
    (found,) = copy.red("rows", baseline=later)["state-tables"]
    assert "agents.public.hc_agent_state rows: 3 missing, 3 stale" in found
    assert any(
        "hc_agent_state" in line for line in copy.red("rows", baseline=later)["table-content"]
    )


def test_a_state_table_that_production_has_not_is_red(copy: Copy) -> None:
    baseline = copy.mould.baseline.model_copy(deep=True)
    del baseline.databases["agents"].state_tables["public.re_plans"]
    assert copy.red("rows", baseline=baseline)["state-tables"][0].startswith(
        "re_plans no such table"
    )


def test_two_heap_pages_in_each_others_place_are_found_without_an_index(copy: Copy) -> None:
    """Every row is there and every page is right by itself: only the places are wrong.

    Checksums hold the page's number.
    """
    copy.sql("ALTER SYSTEM SET ignore_checksum_failure = on")
    path = str(copy.one("SELECT pg_relation_filepath('documents')"))

    def swap(data: Path) -> None:
        content = (data / path).read_bytes()
        assert len(content) >= 3 * 8192
        (data / path).write_bytes(content[8192:16384] + content[:8192] + content[16384:])

    copy.stopped(swap)
    assert any("documents" in line for line in copy.red("rows").get("table-content", []))


def test_a_row_lost_in_a_busy_table_is_told_from_one_that_was_deleted(copy: Copy) -> None:
    """Counters would allow it: five rows were deleted on production up to the restore point.

    This one was not among them.
    """
    baseline = copy.mould.baseline.model_copy(deep=True)
    state = baseline.databases["agents"].tables["public.documents"]
    places = copy.one("SELECT array_agg(ctid::text || '/' || xmin::text) FROM documents")
    assert isinstance(places, list)
    assert state.content
    line = baseline.databases["agents"].horizon
    with copy.server.connect("agents") as connection:
        state.sample = read_sample(connection, "public", "documents", line, Shares(1, 1))
    state.changes, state.bracketed = Changes(inserted=0, updated=0, deleted=5), False
    assert copy.red("rows", baseline=baseline) == {}
    copy.sql(
        "SET session_replication_role = replica",
        "DELETE FROM documents WHERE ctid = (SELECT min(ctid) FROM documents)",
    )
    assert any(
        "documents 1 of" in line for line in copy.red("rows", baseline=baseline)["table-content"]
    )


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_content_check_names_the_table(copy: Copy, kind: str) -> None:
    statement, table = DAMAGES[kind]
    copy.sql("SET session_replication_role = replica", statement)
    red = copy.red("rows")
    assert any(table in line for line in red.get("table-content", [])), f"{kind}: {red}"


def test_one_changed_byte_in_a_heap_page_is_found_though_the_row_count_is_right(copy: Copy) -> None:
    path = str(copy.one("SELECT pg_relation_filepath('hc_patients')"))
    needle = str(copy.one("SELECT last_name FROM hc_patients LIMIT 1")).encode()

    def flip(data: Path) -> None:
        file = data / path
        content = bytearray(file.read_bytes())
        place = content.index(needle)
        content[place] ^= 0x01
        file.write_bytes(content)

    copy.stopped(flip)
    copy.sql("ALTER SYSTEM SET ignore_checksum_failure = on", "SELECT pg_reload_conf()")
    red = copy.red("rows")
    assert any("hc_patients" in line for line in red.get("table-content", [])), red


def test_a_page_with_a_wrong_checksum_makes_its_table_unreadable_and_red(copy: Copy) -> None:
    path = str(copy.one("SELECT pg_relation_filepath('hc_patients')"))

    def flip(data: Path) -> None:
        file = data / path
        content = bytearray(file.read_bytes())
        content[-100] ^= 0xFF
        file.write_bytes(content)

    copy.stopped(flip)
    assert any("hc_patients" in line for line in copy.red("rows").get("table-content", []))


def test_a_relation_file_that_is_missing_is_red(copy: Copy) -> None:
    path = str(copy.one("SELECT pg_relation_filepath('hc_patients')"))
    copy.stopped(lambda data: (data / path).unlink())
    assert any("hc_patients" in line for line in copy.red("rows").get("table-content", []))


def test_a_relation_file_truncated_on_a_block_boundary_is_red(copy: Copy) -> None:
    path = str(copy.one("SELECT pg_relation_filepath('embeddings')"))

    def truncate(data: Path) -> None:
        with (data / path).open("r+b") as file:
            file.truncate(8192)

    copy.stopped(truncate)
    assert any("embeddings" in line for line in copy.red("rows").get("table-content", []))


def test_changes_that_the_counters_explain_are_no_damage(copy: Copy) -> None:
    """A table that was written to up to the restore point may have lost as many old rows as were
    updated or deleted.
    """
    baseline = copy.mould.baseline.model_copy(deep=True)
    state = baseline.databases["agents"].tables["public.documents"]
    state.changes, state.bracketed = Changes(inserted=0, updated=3, deleted=2), False
    copy.sql(
        "SET session_replication_role = replica",
        "DELETE FROM documents WHERE ctid IN (SELECT ctid FROM documents ORDER BY ctid LIMIT 2)",
    )
    assert copy.red("rows", baseline=baseline) == {}
    copy.sql(
        "SET session_replication_role = replica",
        "DELETE FROM documents WHERE ctid IN (SELECT ctid FROM documents ORDER BY ctid LIMIT 1)",
    )
    assert "table-content" in copy.red("rows", baseline=baseline)
    state.bracketed = True  # what two snapshots saw, no counter explains
    assert "table-content" in copy.red("rows", baseline=baseline)
