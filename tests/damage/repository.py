"""Damage to the objects of a repository, judged by what would happen in a drill, cheapest first.

1. pgdrill's own preflight refuses it. 2. The real backup tool, run on the damaged object, fails:
   then so does the restore. 3. What the tool gives is to the byte what it gave before. 4. Otherwise
   a whole drill has to be red, or the cluster that it restored has to hold what the undamaged one
   holds.
"""

from __future__ import annotations

import copy
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import lz4.frame
import obstore

from pgdrill.access import Access, Credentials
from pgdrill.drill import check_stage, destroy_stage, new_drill_id, restore_stage
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.host.process import ProcessTimeout, Runner
from pgdrill.postgres.wal import Segment
from pgdrill.recovery.goal import Goal
from pgdrill.recovery.planning import Look
from pgdrill.recovery.restore import plan_restore
from pgdrill.recovery.targets import RecoveryTarget
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from tests.damage.content import different, read_content
from tests.damage.kinds import KINDS
from tests.damage.outcome import MISSED, Outcome
from tests.damage.small import Small, set_name

BLOCK = 4096
BEFORE = " before compression"
AREAS = ("base backup", "WAL", "metadata")


def draw(small: Small, chance: random.Random, area: str) -> tuple[Path, str, bytes]:
    """An object (relative), what was done to it, and its new content."""
    objects = list(_objects(small, area))
    while True:
        file = chance.choice(objects)
        stored = (small.repository / file).read_bytes()
        kind = chance.choice(list(KINDS))
        inside = file.suffix == ".lz4" and chance.random() < 0.6
        before = lz4.frame.decompress(stored) if inside else stored
        block = BLOCK if len(before) > 4 * BLOCK else 64
        after = KINDS[kind](chance, before, block)
        if after is None or after == before:
            continue
        return file, f"{kind}{BEFORE if inside else ''}", _packed(after) if inside else after


def put_wal(access: Access, name: str, content: bytes) -> str:
    """Put a file of WAL where the tool archives to; return its key."""
    walg = access.tool.name == "wal-g"
    key = access.repository.wal_keys.of(name) + (".lz4" if walg else "")
    obstore.put(access.objects.store, key, _packed(content) if walg else content)
    return key


def _packed(content: bytes) -> bytes:
    return bytes(lz4.frame.compress(content, content_checksum=True))


def _objects(small: Small, area: str) -> Iterator[Path]:
    """What a restore of that backup reads; pgdrill's own record counts as metadata."""
    for path in sorted(small.repository.rglob("*")):
        name = path.name
        file = path.relative_to(small.repository)
        if not path.is_file():
            continue
        if ".tar" in name:
            found = "base backup"
        elif ".history" in name:
            found = "metadata"
        elif "wal" in str(file.parent) and ".backup" not in name:
            found = (
                "WAL"
                if Segment.parse(name[:24]).number >= small.backup.first_segment().number
                else ""
            )
        elif ".backup" in name:
            found = ""
        else:
            found = "metadata"
        if found == area:
            yield file


def opened(small: Small, folder: Path, place: str) -> Access:
    """The repository ``place``, drilled in ``folder``; production is not there."""
    stack = small.stack
    cluster = stack.cluster
    where = (
        {"url": f"s3://{stack.s3.bucket}/{place}"}
        if stack.tool == "barman-cloud"
        else {"url": f"file://{stack.s3.folder / stack.s3.bucket / place}", "endpoint_url": ""}
    )
    cluster = cluster.model_copy(
        update={
            "drill": cluster.drill.model_copy(update={"work_directory": folder}),
            "repository": cluster.repository.model_copy(update=where),
            "server": cluster.server.model_copy(update={"dsn": f"host={stack.home}/gone"}),
        }
    )
    return Access(cluster, Credentials({}, stack.s3.environment))


@contextmanager
def with_object(small: Small, file: Path, content: bytes, *, recorded: bool) -> Iterator[Access]:
    """A repository that differs from the good one in one object; the others are the same files."""
    place = f"d{os.urandom(6).hex()}"
    folder = small.stack.s3.folder / small.stack.s3.bucket / place
    shutil.copytree(small.repository, folder, copy_function=os.link)
    (folder / file).unlink()
    (folder / file).write_bytes(content)
    if not recorded:
        shutil.rmtree(folder / "pgdrill")
    work = small.stack.home / "work" / place
    try:
        yield opened(small, work, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)


def judge_object(small: Small, area: str, file: Path, kind: str, content: bytes) -> Outcome:
    """What becomes of a drill with that object."""

    def outcome(end: str, words: str = "") -> Outcome:
        return Outcome(area, kind, str(file), end, words[:200])

    # Other bytes before compression give another size, and a record that pgdrill kept would tell at
    # once. Not every backup has one; without it the tool and the checks have to find the damage.
    with (
        with_object(small, file, content, recorded=BEFORE not in kind) as access,
        ExitStack() as after,
    ):
        drill_id = new_drill_id()
        workspace = Workspace.of(access, drill_id)
        after.callback(workspace.destroy, access)  # its socket's folder lies elsewhere
        runner = Runner()
        try:
            plan = plan_restore(access, workspace, _goal(small), runner)
        except (BackupFault, CouldNotVerify) as error:
            return outcome("preflight", f"{error.problem.reason} {error.problem.thing}")
        try:
            of_wal = area == "WAL" or ".history" in file.name
            same = (_same_wal if of_wal else _same_base)(small, access, runner, workspace, file)
        except _Refused as error:
            return outcome("tool", str(error))
        workspace.destroy()
        if same and plan.backup == small.backup:
            return outcome("same bytes")
        return outcome(*_drilled(small, access, drill_id))


class _Refused(Exception):
    """The tool does not give the object."""


def _goal(small: Small) -> Goal:
    """As a drill makes it of its baseline."""
    known = small.baseline
    return Goal(
        "LATEST",
        RecoveryTarget("name", known.restore_point),
        known.system_identifier,
        known.timeline,
        known.lsn_position,
    )


def _same_wal(
    small: Small, access: Access, runner: Runner, workspace: Workspace, file: Path
) -> bool:
    """Recovery gets a segment from the reader that fetches ahead, or from the tool: refused is what
    neither can read.
    """
    workspace.home.mkdir(parents=True, exist_ok=True)
    fetched = access.wal_reader(runner, workspace.home).fetch(file.name.partition(".lz4")[0])
    good = lz4.frame.decompress((small.repository / file).read_bytes())
    stored = (
        next(Path(access.repository.url.removeprefix("file://")).rglob(file.name))
        if small.stack.tool == "wal-g"
        else (
            small.stack.s3.folder
            / small.stack.s3.bucket
            / access.cluster.repository.url.rpartition("/")[2]
            / file
        )
    )
    try:
        read = lz4.frame.decompress(stored.read_bytes())
    except RuntimeError:
        if fetched is None:
            raise _Refused("neither the tool nor lz4 can read it") from None
        read = fetched.read_bytes()
    return fetched is not None and fetched.read_bytes() == good == read


def _same_base(
    small: Small, access: Access, runner: Runner, workspace: Workspace, file: Path
) -> bool:
    backup = next(b for b in access.repository.backups() if b.name == small.backup.name)
    fetch = access.tool.fetch(backup, workspace.data_directory, {}, workspace.home, 2).command
    try:
        done = runner.run(fetch, timeout_seconds=30, quiet=True)
    except ProcessTimeout as error:
        raise _Refused(f"it hangs: {error}") from None
    if done.code:
        raise _Refused(done.ended)
    return tree(workspace.data_directory) == tree(small.fetched)


def tree(folder: Path) -> dict[str, bytes | None]:
    """A data directory's files, and its folders, by name."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


def _drilled(small: Small, access: Access, drill_id: str) -> tuple[str, str]:
    """A whole drill to the restore point. What production held is known, so it is not asked
    again."""
    baseline = copy.deepcopy(small.baseline)
    with patch(
        "pgdrill.recovery.planning.look_at_production", lambda *_, **__: Look(baseline, None, None)
    ):
        try:
            report = restore_stage(access, drill_id)
            if report.restore.status != "ok":
                return "recovery", report.reason
            report = check_stage(access, drill_id)
            if report.verdict != "passed":
                return "checks", report.reason
            changed = different(
                small.content, read_content(Workspace.of(access, drill_id).server(access), set_name)
            )
            return (MISSED, ", ".join(changed)) if changed else ("same content", "")
        finally:
            store.report_file(access, drill_id).unlink(missing_ok=True)
            destroy_stage(access, drill_id)
