"""Pruning as each tool does it: in a bucket, with deltas, and killed at each step."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from pgdrill.access import Access
from pgdrill.baseline import backup_record
from pgdrill.host.process import Runner
from pgdrill.retention import holds
from pgdrill.retention.prune import look, prune
from pgdrill_demo.stack import Stack
from tests.conftest import TOOLS, need, thorough
from tests.integration.pruning import (
    EASY,
    LATER,
    access_of,
    names,
    permanent,
    pruned_and_killed,
    small_stack,
    wal_g,
    whole,
)
from tests.integration.retention.fourteen_weeks import Barman


@pytest.fixture(scope="module")
def barman() -> Iterator[Stack]:
    """Three base backups by barman-cloud, and nothing running any more; tests take copies with a
    store of their own.
    """
    with small_stack(need("barman-cloud"), 3) as made:
        made.stop()
        yield made


def copy_of(barman: Stack, name: str) -> Access:
    place = barman.home / name / "s3" / barman.s3.bucket / barman.cluster_name
    place.parent.mkdir(parents=True)
    subprocess.run(
        ["cp", "-a", barman.s3.folder / barman.s3.bucket / barman.cluster_name, place], check=True
    )
    return Barman(place, barman).access(**EASY)


@pytest.mark.parametrize("tool", TOOLS)
def test_in_a_bucket_a_tool_deletes_exactly_what_was_planned(
    tool: str, request: pytest.FixtureRequest
) -> None:
    with small_stack(need(tool), 3) if tool == "wal-g" else contextlib.nullcontext() as stack:
        access = access_of(stack) if stack else copy_of(request.getfixturevalue("barman"), "bucket")
        first, second, newest = (backup.name for backup in access.repository.backups())
        holds.add_hold(access, first, why="case 77/26", until=LATER + timedelta(days=1))
        before = access.objects.sizes()
        outlook = look(access, Runner(), now=LATER)
        assert outlook.refusals == ()
        assert outlook.plan.going("backup") == {second}
        assert access.objects.sizes() == before, "a dry run writes nothing"
        result = prune(access, Runner(), now=LATER, approved=outlook.plan.digest)
        assert names(access) == [first, newest]
        assert (result.backups_deleted, result.locked, result.left) == (1, [], [])
        assert result.wal_segments_deleted == sum(run.count for run in outlook.plan.wal)
        # barman-cloud frees no WAL while an older backup is there; wal-g keeps exactly that one's
        # own.
        assert (result.wal_segments_deleted > 3) == access.tool.frees_wal_alone
        assert permanent(access) == ([first] if access.tool.keeps_own_wal_only else [])
        whole(access)
        gone = set(before) - set(access.objects.sizes())
        assert {key for key in gone if not access.tool.wal_key(key)} == {
            *(key for key in before if second in key and "pgdrill" not in key),
            f"pgdrill/{backup_record.key(second)}",
        }
        holds.remove_hold(access, first)
        prune(access, Runner(), now=LATER)
        assert names(access) == [newest]
        start = next(b for b in access.repository.backups()).first_segment().name
        assert (
            min(name for name in access.repository.wal() if not name.endswith("history")) == start
        )
        whole(access)
        assert look(access, Runner(), now=LATER).plan.steps == ()


def test_deltas_are_marked_with_what_they_build_on_and_go_before_it() -> None:
    with small_stack(need("wal-g"), 6, delta_steps=2) as stack:
        folder = stack.s3.folder / stack.s3.bucket / stack.cluster_name
        access = access_of(stack, folder)
        all_names = names(access)
        holds.add_hold(access, all_names[1], why="case 77/26", until=LATER + timedelta(days=1))
        prune(access, Runner(), now=LATER)
        # The first chain's middle is held, so its full stays; the newest delta is the anchor, so
        # its chain stays.
        assert names(access) == [*all_names[:2], *all_names[3:]]
        # wal-g frees no WAL if the oldest backup not marked is a delta: the anchor's chain is left
        # unmarked.
        assert permanent(access) == all_names[:2]
        whole(access)
        into = stack.home / "fetched"
        wal_g(folder, "backup-fetch", str(into), all_names[5])
        assert (into / "PG_VERSION").exists()
        holds.remove_hold(access, all_names[1])
        prune(access, Runner(), now=LATER)
        assert names(access) == all_names[3:]
        whole(access)


def test_barman_cloud_killed_at_any_step_is_no_loss_either(barman: Stack) -> None:
    """It frees WAL together with the oldest backup.

    Each of its programs takes seconds: all the steps are for ``make histories``.
    """
    steps = ["delete-backup", "delete-backup", "delete-wal"]
    for at in range(len(steps) + 1) if thorough() else (1,):
        killed = copy_of(barman, f"k{at}")
        first, second, newest = names(killed)
        assert [step.kind for step in look(killed, Runner(), now=LATER).plan.steps] == steps
        # an open store is no thing to hand to a process
        process = multiprocessing.get_context("spawn").Process(
            target=pruned_and_killed, args=(replace(killed), at)
        )
        process.start()
        process.join()
        assert process.exitcode == 9
        assert names(killed) == [first, second, newest][min(at, 2) :]
        whole(killed)
        assert prune(killed, Runner(), now=LATER).left == []
        assert names(killed) == [newest]
        assert look(killed, Runner(), now=LATER).plan.steps == ()
        whole(killed)
