"""Memory and workers of a build, forecasts, what may go, names: decided without a server."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify, StandbyConflict
from pgdrill.logical import manifest, transfer
from pgdrill.logical.build_forecast import forecast
from pgdrill.logical.index_builds import MIB, needed_bytes, plan_build, rows_in
from pgdrill.logical.manifest import VectorIndex
from pgdrill.logical.pg_dump import failure, words_only
from pgdrill.logical.pg_restore import is_index, restore_failure
from pgdrill.logical.report import DumpReport, IndexBuild
from pgdrill.logical.scratch_cluster import older
from pgdrill.logical.single_table import choose
from pgdrill.logical.store import Listed
from pgdrill.reports.model import Stage, Trouble, Verdict

GIB = 1024 * MIB
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def index(rows: int = 29_800, dimensions: int = 384, **more: object) -> VectorIndex:
    given = {
        "schema_name": "public",
        "name": "i",
        "table": "public.t",
        "method": "hnsw",
        "opclass": "vector_l2_ops",
        "options": [],
        "dimensions": dimensions,
        "kind": "vector",
        "rows": rows,
        "bytes": 0,
        **more,
    }
    return VectorIndex.model_validate(given)


def test_the_memory_of_a_graph_is_what_was_measured() -> None:
    assert needed_bytes(index()) == pytest.approx(64 * MIB, rel=0.02)
    assert rows_in(64 * MIB, index()) == pytest.approx(29_800, rel=0.02)
    assert needed_bytes(index(kind="halfvec")) < needed_bytes(index())


def test_a_build_gets_what_it_needs_and_says_when_it_does_not_fit() -> None:
    plan = plan_build(
        index(1_000_000), available_bytes=8 * GIB, shared_memory_bytes=8 * GIB, cores=4
    )
    assert plan.fits
    assert plan.memory_bytes == pytest.approx(1.15 * plan.needed_bytes, rel=0.01)
    assert plan.workers == 4
    small = plan_build(
        index(1_000_000), available_bytes=2 * GIB, shared_memory_bytes=8 * GIB, cores=4
    )
    assert not small.fits
    assert small.memory_bytes < 1.5 * GIB
    assert "does not fit; limited by the memory that is free" in small.reason


def test_shared_memory_limits_parallel_builds_as_in_a_container() -> None:
    plan = plan_build(index(1_000_000), available_bytes=8 * GIB, shared_memory_bytes=GIB, cores=4)
    assert plan.memory_bytes <= GIB
    assert "/dev/shm" in plan.reason
    docker = plan_build(
        index(1_000_000), available_bytes=8 * GIB, shared_memory_bytes=64 * MIB, cores=4
    )
    assert (docker.workers, docker.fits) == (0, True)
    assert (
        plan_build(
            index(),
            available_bytes=GIB,
            shared_memory_bytes=GIB,
            cores=2,
            configured_bytes=777 * MIB,
        ).memory_bytes
        == 777 * MIB
    )


def build(rows: int, seconds: float, **more: object) -> IndexBuild:
    given = {
        "database": "d",
        "index": "public.i",
        "table": "public.t",
        "method": "hnsw",
        "kind": "vector",
        "dimensions": 384,
        "m": 16,
        "ef_construction": 64,
        "rows": rows,
        "seconds": seconds,
        "index_bytes": 1,
        "needed_bytes": 2252 * rows,
        "maintenance_work_mem_bytes": GIB,
        "workers": 2,
        "fits": True,
        **more,
    }
    return IndexBuild.model_validate(given)


@given(st.floats(1e-6, 1e-3), st.floats(1e-7, 1e-4), st.integers(2_000, 1_000_000))
def test_a_forecast_from_builds_of_two_sizes_finds_the_curve_again(
    a: float, b: float, rows: int
) -> None:
    def curve(n: int) -> float:
        return a * n + b * n * math.log(n)

    found = forecast(
        [build(rows, curve(rows)), build(3 * rows, curve(3 * rows))], "public.i", 12 * rows
    )
    assert found
    assert found.seconds == pytest.approx(curve(12 * rows), rel=0.02, abs=0.1)
    assert found.needed_bytes == pytest.approx(2252 * 12 * rows, rel=0.001)


def test_a_forecast_widens_with_the_distance_and_is_refused_where_nothing_tells() -> None:
    one = [build(50_000, 10.6)]
    near, far = forecast(one, "public.i", 50_000), forecast(one, "public.i", 50_000 * 64)
    assert near
    assert far
    assert near.seconds == 10.6
    assert far.error > near.error
    assert forecast(one, "public.other", 1000) is None
    assert forecast([build(50_000, 10, fits=False)], "public.i", 1000) is None
    assert forecast([build(500, 0.2)], "public.i", 1000) is None
    assert forecast([build(50_000, 10, method="ivfflat")], "public.i", 1000) is None


def test_a_dump_counts_by_a_restore_of_itself_and_not_by_a_rehearsal() -> None:
    def restored(
        verdict: Verdict, *, migrated: bool = False, found: str = "", hours: int = 0
    ) -> DumpReport:
        trouble = (
            Trouble(
                reason=found,
                thing="agents.dump",
                found="other content",
                expected="as dumped",
                hint="another",
            )
            if found
            else None
        )
        return DumpReport(
            drill_id="d",
            dump_id="1",
            cluster="c",
            started_at=NOON + timedelta(hours=hours),
            verdict=verdict,
            migrated=migrated,
            restore=Stage(trouble=trouble),
        )

    assert not Listed("1", ()).counts
    assert not Listed("1", (restored("failed"), restored("passed", migrated=True))).counts
    assert Listed("1", (restored("passed"), restored("could not verify", hours=1))).counts
    assert not Listed(
        "1", (restored("passed"), restored("failed", found="dump-damaged", hours=1))
    ).counts, "it was good once"
    assert Listed(
        "1", (restored("failed", found="dump-damaged"), restored("passed", hours=1))
    ).counts, "its object was put back"
    assert Listed(
        "1", (restored("passed"), restored("failed", found="restore-errors", hours=1))
    ).counts, "another place could not hold it"


def test_parts_stay_below_what_s3_allows_whatever_the_size() -> None:
    for size in (0, 10**9, 10**12, 20 * 10**12):
        assert size / transfer.part_bytes(size) < 10_000
    assert transfer.part_bytes(480 * 10**9) * (transfer.PARTS_AT_ONCE + 1) < 600 * MIB


def test_names_of_databases_become_names_of_objects_and_never_paths() -> None:
    names = ["agents", "Ägents", "a/b", "..", "a b", "a_b"]
    made = [manifest.object_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert all(manifest.FILE_NAME.fullmatch(f"{name}.dump") and "/" not in name for name in made)


@pytest.mark.parametrize(
    ("found", "recorded", "result"),
    [
        ("0.8.5", "0.8.6", True),
        ("0.8.10", "0.8.9", False),
        ("0.8", "0.8", False),
        ("1.x", "2.y", False),
    ],
)
def test_versions_are_compared_by_their_numbers(found: str, recorded: str, result: bool) -> None:
    assert older(found, recorded) is result


@pytest.mark.parametrize(
    ("words", "reason", "kind"),
    [
        ('FATAL:  password authentication failed for user "x"', "login-refused", ConfigError),
        ("ERROR:  permission denied for large object 4711", "permission", CouldNotVerify),
        (
            "ERROR:  canceling statement due to conflict with recovery",
            "standby-conflict",
            StandbyConflict,
        ),
        ("ERROR:  canceling statement due to lock timeout", "locked", CouldNotVerify),
        ("could not write: No space left on device", "no-space", CouldNotVerify),
        ("could not read from input file: end of file", "dump-damaged", BackupFault),
        ("something else", "tool-failed", CouldNotVerify),
    ],
)
def test_last_words_tell_whose_fault_it_was(words: str, reason: str, kind: type[Exception]) -> None:
    error = failure("dump", words, words)
    assert isinstance(error, kind)
    assert error.problem.reason == reason


def test_rows_in_errors_of_the_server_are_kept_from_every_log() -> None:
    lines = [
        'pg_restore: error: COPY failed for table "t": ERROR:  duplicate key',
        "DETAIL:  Key (email)=(me@example.org) exists.",
        'CONTEXT:  COPY t, line 3: "secret row"',
        "HINT:  try again",
        "rest of a row",
    ]
    assert [words_only(line) for line in lines] == [lines[0], None, None, lines[3], None]


def test_every_error_of_a_restore_counts_and_the_host_s_are_told_apart() -> None:
    assert isinstance(
        restore_failure(
            "x", ["pg_restore: error: a", "pg_restore: warning: errors ignored on restore: 1"]
        ),
        BackupFault,
    )
    shm = restore_failure(
        "x", ["pg_restore: error: could not resize shared memory segment: No space left on device"]
    )
    assert isinstance(shm, CouldNotVerify)
    assert (
        "2 more"
        in restore_failure("x", [f"pg_restore: error: {n}" for n in range(5)]).problem.found
    )


CONTENTS = """;
; Archive created at …
230; 1259 16402 TABLE public items owner
231; 1259 16410 TABLE public items_old owner
229; 1259 16401 SEQUENCE public items_id_seq owner
3500; 0 16402 TABLE DATA public items owner
3501; 0 16410 TABLE DATA public items_old owner
3600; 0 0 COMMENT public COLUMN items.embedding owner
3601; 0 0 COMMENT public COLUMN items_old.embedding owner
3602; 0 0 ACL public TABLE items owner
3300; 2606 16420 CONSTRAINT public items items_pkey owner
3301; 1259 16421 INDEX public items_hnsw owner
3302; 1259 16422 INDEX public items_hnsw_old owner
3303; 2606 16423 FK CONSTRAINT public items items_fk owner
3304; 2620 16424 TRIGGER public items touch owner
3305; 0 0 INDEX ATTACH public items_hnsw owner""".splitlines()


def test_a_table_s_own_entries_are_chosen_and_what_needs_others_is_counted() -> None:
    table = manifest.TableContent(
        rows=1,
        digest="",
        columns=["id"],
        indexes=["items_pkey", "items_hnsw"],
        sequences=["public.items_id_seq"],
    )
    chosen, left_out = choose(CONTENTS, {"public.items": table})
    assert [line.split(";")[0] for line in chosen] == [
        "230",
        "229",
        "3500",
        "3600",
        "3300",
        "3301",
        "3305",
    ]
    assert left_out == {"ACL": 1, "FK CONSTRAINT": 1, "TRIGGER": 1}


def test_an_index_is_found_by_its_whole_name() -> None:
    assert [
        line.split(";")[0] for line in CONTENTS if is_index(line, index(name="items_hnsw"))
    ] == ["3301"]


def test_a_part_that_is_missing_for_ever_is_no_network_problem(tmp_path: Path) -> None:
    from pgdrill.repository.object_store import Storage

    store = Storage.open(f"file://{tmp_path}", {})
    with pytest.raises(BackupFault, match="no such object"):
        transfer.download(
            store,
            "x/y.dump",
            manifest.DumpFile(name="y.dump", bytes=1, sha256="0" * 64),
            tmp_path / "z",
            lambda _: None,
        )
