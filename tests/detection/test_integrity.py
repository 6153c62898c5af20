"""Damage to files, pages and indexes that no query of the application need ever touch is found and
the relation named.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pgdrill.baseline import Changes
from pgdrill.checks import Context, run_checks
from pgdrill.checks.runner import checking
from pgdrill.reports.model import CheckResult
from tests.detection.conftest import DATABASE, STATEMENT_SECONDS, Copy

FAMILIES = ("integrity",)
PAGE = 8192
Change = Callable[[list[bytes]], list[bytes]]

THINGS = (
    (
        "CREATE TABLE things (id int, word text, span int4range, tags int[], note text STORAGE"
        " EXTERNAL)"
    ),
    "CREATE INDEX things_btree ON things (id)",
    "CREATE INDEX things_hash ON things USING hash (word)",
    "CREATE INDEX things_gist ON things USING gist (span)",
    "CREATE INDEX things_spgist ON things USING spgist (word)",
    "CREATE INDEX things_gin ON things USING gin (tags) WITH (fastupdate = off)",
    "CREATE INDEX things_brin ON things USING brin (id) WITH (pages_per_range = 1)",
    "CREATE EXTENSION IF NOT EXISTS pageinspect",
)
MORE = (
    (
        "INSERT INTO things SELECT i, md5(i::text), int4range(i, i + 3), ARRAY[i, i + 1],"
        " repeat('x', 300) FROM generate_series({}, {}) i"
    ),
    "INSERT INTO things (id, note) SELECT 0, repeat('y', 9000) FROM generate_series(1, 5)",
    "VACUUM ANALYZE things",
)
METHODS = ("btree", "hash", "gist", "spgist", "gin", "brin")


def results(copy: Copy, *families: str) -> list[CheckResult]:
    """Ask as a drill does, which may write to its own cluster (and rolls back)."""
    context = Context(
        cluster=copy.mould.stack.cluster,
        connect=checking(
            lambda name: copy.server.connect(name, autocommit=False), STATEMENT_SECONDS
        ),
        databases=(DATABASE,),
        baseline=copy.mould.baseline.model_copy(deep=True),
        settle=lambda: True,
        prepare=copy.server.connect,
    )
    return list(run_checks(context, families or FAMILIES))


def red(copy: Copy, *families: str) -> dict[str, str]:
    """The failing checks, each with all it says."""
    found: dict[str, str] = {}
    for result in results(copy, *families):
        if result.status == "fail":
            found[result.name] = (
                f"{found.get(result.name, '')} {result.thing} {result.value} {result.message};"
            )
    return found


def file_of(copy: Copy, relation: str) -> str:
    return str(copy.one(f"SELECT pg_relation_filepath('{relation}')"))


def with_things(copy: Copy) -> None:
    copy.sql(*THINGS, *add(1, 4000))


def add(first: int, last: int) -> list[str]:
    return [statement.format(first, last) for statement in MORE]


def pages_of(copy: Copy, relation: str) -> list[bytes]:
    copy.sql("CHECKPOINT")
    content = (copy.data / file_of(copy, relation)).read_bytes()
    return [content[start : start + PAGE] for start in range(0, len(content), PAGE)]


def signed(copy: Copy, page: bytes, block: int) -> bytes:
    """The page with the checksum that it ought to have at that place."""
    number = copy.one(f"SELECT page_checksum(decode('{page.hex()}', 'hex'), {block})")
    return page[:8] + struct.pack("<h", number) + page[10:]


def rewrite(copy: Copy, relation: str, change: Change, *, sign: bool = True) -> None:
    """Change pages; checksums are right again afterwards, unless ``sign`` is false."""
    before, path = pages_of(copy, relation), file_of(copy, relation)
    after = change(list(before))
    for block, page in enumerate(after):
        if sign and page.strip(b"\0") and (block >= len(before) or page != before[block]):
            after[block] = signed(copy, page, block)
    copy.stopped(lambda data: (data / path).write_bytes(b"".join(after)) and None)


def test_a_healthy_copy_is_green_with_every_index_covered(copy: Copy) -> None:
    with_things(copy)
    before = copy.one("SELECT count(*) FROM pg_class")
    assert {(r.name, r.thing, r.message) for r in results(copy) if r.status != "pass"} == set()
    assert copy.one("SELECT count(*) FROM pg_class") == before, "the checks left something behind"


FILES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "cut to one page": lambda file: file.write_bytes(file.read_bytes()[:PAGE]),
    "empty": lambda file: file.write_bytes(b""),
    "torn": lambda file: file.write_bytes(file.read_bytes()[:-100]),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_not_whole_names_table_index_and_toast(copy: Copy, kind: str) -> None:
    with_things(copy)
    copy.sql("CREATE TABLE other AS SELECT * FROM things", "VACUUM ANALYZE other")
    toast = str(copy.one("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'things'"))
    paths = [file_of(copy, relation) for relation in ("other", "things_gin", toast)]
    copy.stopped(lambda data: [FILES[kind](data / path) for path in paths] and None)
    found = red(copy)["relation-files"]
    assert all(
        f"agents.{name} " in found for name in ("other", "things_gin", f"{toast} of things")
    ), found


@pytest.mark.parametrize(
    ("missing", "excuse", "answer"),
    [
        (1, {}, "warn"),
        (64, {}, "warn"),
        (65, {}, "fail"),
        (1, {"content": None}, "fail"),
        (65, {"vacuumed": True}, "warn"),
        (65, {"changes": Changes(deleted=1)}, "warn"),
        (65, {"changes": None}, "warn"),
    ],
    ids=[
        "added at its end",
        "most added",
        "more",
        "not read whole",
        "vacuumed",
        "written",
        "unknown",
    ],
)
def test_a_table_shorter_than_noted_is_excused_only_by_what_can_happen_on_production(
    copy: Copy, missing: int, excuse: dict[str, object], answer: str
) -> None:
    pages = copy.one("SELECT pg_relation_size('hc_patients') / current_setting('block_size')::int")
    copy.sql(
        f"UPDATE pg_class SET relpages = {pages} + {missing} WHERE oid = 'hc_patients'::regclass"
    )
    baseline = copy.mould.baseline.model_copy(deep=True)
    tables = baseline.databases["agents"].tables
    tables["public.hc_patients"] = tables["public.hc_patients"].model_copy(update=excuse)
    found = [
        r
        for r in copy.results("integrity", baseline=baseline)
        if r.name == "relation-files" and r.status != "pass"
    ]
    assert [(r.thing, r.status) for r in found] == [("agents.hc_patients", answer)]


def test_a_table_without_its_last_page_is_red_by_its_rows(copy: Copy) -> None:
    path = file_of(copy, "hc_patients")
    copy.stopped(
        lambda data: (data / path).write_bytes((data / path).read_bytes()[:-PAGE]) and None
    )
    found = red(copy, "rows", "integrity")
    assert "hc_patients" in found["table-content"]
    assert "agents.hc_patients" not in found.get("relation-files", "")


def test_zeroed_pages_have_no_checksum_and_are_found_all_the_same(copy: Copy) -> None:
    with_things(copy)
    for relation in ("things_btree", "things_hash", "hc_patients"):
        rewrite(copy, relation, lambda pages: [bytes(PAGE)] * len(pages))
    toast = str(copy.one("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'things'"))
    rewrite(copy, toast, lambda pages: [bytes(PAGE)] * len(pages))
    found = red(copy, "rows", "integrity")
    assert "things_btree" in found["amcheck"], found
    assert "agents.things " in found["amcheck"], found  # its values in TOAST are gone
    assert "things_hash" in found["access-methods"], found
    # a heap of zeros is an empty one: its content tells
    assert "hc_patients" in found["table-content"], found


@pytest.mark.parametrize("sign", [False, True])
def test_a_flipped_bit_in_a_btree_page(copy: Copy, sign: bool) -> None:
    with_things(copy)

    def flip(pages: list[bytes]) -> list[bytes]:
        page = bytearray(pages[3])
        # in the key of the page's first entry: 16 bytes of page end, 8 of key
        page[PAGE - 16 - 7] ^= 0x40
        return [*pages[:3], bytes(page), *pages[4:]]

    rewrite(copy, "things_btree", flip, sign=sign)
    found = red(copy)
    assert "things_btree" in found["amcheck"]
    assert ("page-checksums" in found) is not sign
    assert sign or "things_btree" in found["page-checksums"]


@pytest.mark.parametrize("method", METHODS)
def test_two_swapped_pages_with_right_checksums(copy: Copy, method: str) -> None:
    with_things(copy)
    rewrite(copy, f"things_{method}", lambda pages: [pages[0], pages[2], pages[1], *pages[3:]])
    found = red(copy)
    assert f"things_{method}" in found.get(
        "amcheck" if method == "btree" else "access-methods", ""
    ), found
    assert "page-checksums" not in found


def test_an_index_with_the_pages_of_an_earlier_day(copy: Copy) -> None:
    """Lost writes: every page is right by itself and the checksums agree."""
    with_things(copy)
    old = {method: pages_of(copy, f"things_{method}") for method in METHODS}
    copy.sql(*add(4001, 5000))
    for method, pages in old.items():
        rewrite(copy, f"things_{method}", lambda now, pages=pages: [*pages, *now[len(pages) :]])
    found = red(copy)
    assert "things_btree" in found["amcheck"], found
    assert [m for m in METHODS[1:] if f"things_{m}" not in found["access-methods"]] == [], found


def test_rows_that_an_index_lacks(copy: Copy) -> None:
    with_things(copy)
    copy.sql(
        "UPDATE pg_index SET indisready = false, indisvalid = false WHERE indrelid ="
        " 'things'::regclass",
        *add(4001, 5000)[:2],  # a vacuum would note that the table has no index
        "UPDATE pg_index SET indisready = true, indisvalid = true WHERE indrelid ="
        " 'things'::regclass",
    )
    found = red(copy)
    assert "things_btree" in found["amcheck"], found
    assert [m for m in METHODS[1:] if f"things_{m}" not in found["access-methods"]] == [], found


def test_an_index_that_gives_rows_that_do_not_match(copy: Copy) -> None:
    """Other values in the table than in the index, as after a heap page of another day."""
    with_things(copy)
    copy.sql(
        "UPDATE pg_index SET indisready = false, indisvalid = false WHERE indrelid ="
        " 'things'::regclass",
        "CREATE TABLE moved AS SELECT id, word, int4range(id + 9000, id + 9003) AS span, ARRAY[id +"
        " 9000, id + 9001] AS tags, note FROM things ORDER BY things.ctid",
        "VACUUM ANALYZE moved",
    )
    copy.sql(
        "UPDATE pg_index SET indisready = true, indisvalid = true WHERE indrelid ="
        " 'things'::regclass"
    )
    moved = pages_of(copy, "moved")
    rewrite(copy, "things", lambda pages: moved)
    found = red(copy)["access-methods"]
    assert all(f"things_{m}" in found for m in ("gist", "gin")), found


def test_a_broken_heap_page_and_a_lost_uniqueness(copy: Copy) -> None:
    with_things(copy)
    copy.sql(
        "CREATE UNIQUE INDEX things_unique ON things (word)",
        "UPDATE pg_index SET indisunique = false WHERE indexrelid = 'things_unique'::regclass",
        "INSERT INTO things (id, word) SELECT -1, word FROM things WHERE id = 7",
        "UPDATE pg_index SET indisunique = true WHERE indexrelid = 'things_unique'::regclass",
        "CREATE TABLE other AS SELECT * FROM things",
    )

    def break_header(pages: list[bytes]) -> list[bytes]:
        page = bytearray(pages[2])
        # t_hoff of the page's first row
        page[struct.unpack_from("<I", page, 24)[0] % 32768 + 22] = 7
        return [*pages[:2], bytes(page), *pages[3:]]

    rewrite(copy, "other", break_header)
    found = red(copy)["amcheck"]
    assert "agents.other " in found, found
    assert "things_unique" in found or int(str(copy.one("SHOW server_version_num"))) < 170000, found


def test_an_invalid_index_is_red_and_named(copy: Copy) -> None:
    copy.sql(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'documents_tags_idx'::regclass"
    )
    assert "documents_tags_idx" in red(copy)["invalid-indexes"]


def test_sequences_ruined_and_behind(copy: Copy) -> None:
    copy.sql(
        "CREATE TABLE numbered (id bigint GENERATED BY DEFAULT AS IDENTITY)",
        "INSERT INTO numbered SELECT FROM generate_series(1, 50)",
        "SELECT setval('numbered_id_seq', 10)",
    )
    rewrite(
        copy,
        "invoice_number_seq",
        lambda pages: [bytes([*pages[0][:-100], *b"x" * 100])],
        sign=False,
    )
    rewrite(copy, "claim_number_seq", lambda pages: [bytes(PAGE)])
    answers = {(r.status, r.thing) for r in results(copy) if r.name == "sequences"}
    assert {
        ("fail", "agents.invoice_number_seq"),
        ("fail", "agents.claim_number_seq"),
        ("warn", "agents.numbered_id_seq"),
    } <= answers


def test_what_is_not_ours_is_left_alone_and_said_to_be_unanswered(copy: Copy) -> None:
    """As ``verify`` asks: no extension is created, and without one there is no pass."""
    answers = {r.name: r.status for r in copy.results(*FAMILIES)}
    if "amcheck" not in str(copy.one("SELECT array_agg(extname) FROM pg_extension")):
        assert (answers["amcheck"], answers["page-checksums"]) == ("skip", "skip")
    assert answers["relation-files"] == "pass"
