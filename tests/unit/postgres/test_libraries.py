"""Which libraries a restored server preloads."""

from __future__ import annotations

import pytest

from pgdrill.postgres.libraries import left_out, may_load, preloaded


def test_only_what_is_known_to_do_nothing_is_loaded_in_productions_order() -> None:
    wanted = (
        'pg_stat_statements, "$libdir/auto_explain",pg_cron, timescaledb,vector , $libdir/pg_net,'
        " no_such"
    )
    assert preloaded(wanted, ()) == "pg_stat_statements,$libdir/auto_explain,vector"
    assert (
        preloaded(wanted, ("pg_cron", "pg_net"))
        == "pg_stat_statements,$libdir/auto_explain,pg_cron,vector,$libdir/pg_net"
    )
    assert preloaded("", ()) == ""
    assert left_out((wanted, "pg_cron", "$libdir/plugins/spy.so"), ()) == [
        "pg_cron",
        "timescaledb",
        "pg_net",
        "no_such",
        "spy",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "/tmp/vector",
        "/tmp/pg_stat_statements.so",
        "../vector",
        "$libdir/../vector",
        "Vector",
        "vector\nx",
        "",
        "pg_stat_statements'",
    ],
)
def test_a_name_that_only_looks_like_a_known_one_is_none(name: str) -> None:
    assert not may_load(name, ())


@pytest.mark.parametrize(
    "name",
    [
        "bgw_replstatus",
        "powa",
        "pg_net",
        "timescaledb",
        "citus",
        "pg_cron",
        "pg_hint_plan",
        "pgsodium",
        "pg_wait_sampling",
        "vchord",
    ],
)
def test_what_listens_runs_jobs_or_reads_tables_is_left_out(name: str) -> None:
    assert not may_load(name, ())
    assert may_load(name, (name,))


def test_a_library_elsewhere_is_allowed_by_its_whole_path_alone() -> None:
    assert may_load("/opt/lib/ours.so", ("/opt/lib/ours.so",))
    assert may_load("/opt/lib/ours.so", ("/opt/lib/ours",))
    assert not may_load("/opt/lib/ours.so", ("ours",))
