"""WAL fetched ahead: a real prefetcher, a real tool, PostgreSQL's side of it run by hand.

The repository is a folder in wal-g's layout with segments made by hand; ``Recovery.ask`` runs the
restore_command exactly as a server's startup process would.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import brotli
import lz4.frame
import psutil
import pytest

from pgdrill.access import Access, Credentials
from pgdrill.config import Cluster
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.host.fence.choose import environment
from pgdrill.postgres.wal import ASKED_NAME, SEGMENT_NAME, Segment, TimelineSwitch
from pgdrill.recovery.preflight import Plan
from pgdrill.recovery.wal_prefetch.client import WalAhead
from pgdrill.recovery.wal_prefetch.plan import order_for, wal_ahead
from pgdrill.recovery.workspace import Workspace
from pgdrill.repository.tools import BaseBackup
from tests.conftest import need
from tests.walpages import MAJOR, PAGE, SYSTEM, segment_bytes

MB = 2**20
FIRST = 3
NOW = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass
class Recovery:
    """A repository, and what a server does with it."""

    folder: Path
    size: int = MB
    timeline: int = 1
    history: tuple[TimelineSwitch, ...] = ()
    drill: dict[str, object] = field(default_factory=dict)
    stop_lsn: int | None = None
    contents: dict[str, bytes] = field(default_factory=dict)
    started: list[WalAhead] = field(default_factory=list)

    @property
    def store(self) -> Path:
        """The repository."""
        return self.folder / "store" / "wal_005"

    @property
    def access(self) -> Access:
        """With limits that keep a hang short."""
        return Access(
            Cluster.model_validate(
                {
                    "server": {"data_directory": "/nowhere"},
                    "repository": {"url": f"file://{self.folder}/store"},
                    "name": "agents",
                    "drill": {
                        "work_directory": self.folder / "work",
                        "stall_seconds": 20,
                        "wal_tool_sample": 0,
                        **self.drill,
                    },
                }
            )
        )

    @property
    def workspace(self) -> Workspace:
        """The drill's folder."""
        return Workspace.of(self.access, "x")

    def archive(
        self, count: int, pages: int = 3, first: int = FIRST, timeline: int | None = None
    ) -> list[Segment]:
        """Segments in the repository, from number ``first`` on."""
        self.store.mkdir(parents=True, exist_ok=True)
        made = [
            Segment(timeline or self.timeline, number, self.size)
            for number in range(first, first + count)
        ]
        for segment in made:
            self.contents[segment.name] = segment_bytes(segment, pages, seed=segment.number)
            self.object(segment).write_bytes(compressed(self.contents[segment.name]))
        return made

    def object(self, segment: Segment) -> Path:
        """Where a segment is kept."""
        return self.store / f"{segment.name}.lz4"

    def begin(self, **order: object) -> WalAhead:
        """Start fetching ahead."""
        backup = BaseBackup(
            "base", SYSTEM, MAJOR, self.timeline, FIRST * self.size + 40, 0, NOW, NOW
        )
        plan = Plan(
            backup, None, self.timeline, self.stop_lsn, 0, {}, 0, self.timeline, self.history
        )
        self.workspace.create()
        ahead = wal_ahead(self.access, self.workspace)
        self.started.append(ahead)
        ahead.start(replace(order_for(self.access, self.workspace, plan, self.size), **order))  # type: ignore[arg-type]
        return ahead

    @property
    def ahead(self) -> WalAhead:
        """What was begun."""
        return self.started[-1]

    @property
    def process(self) -> psutil.Process:
        """The prefetcher."""
        return psutil.Process(self.ahead._process.pid)  # type: ignore[union-attr]

    @property
    def destination(self) -> Path:
        """What PostgreSQL calls it, with everything in the path that a careless script trips
        over."""
        folder = self.folder / "pg wal's $HOME *"
        folder.mkdir(exist_ok=True)
        return folder / "RECOVERYXLOG"

    def command(self, name: str) -> list[str]:
        """The restore_command for a file, as PostgreSQL runs it."""
        line = self.ahead.restore_command
        return [
            "sh",
            "-c",
            line.replace("%f", name).replace("%p", str(self.destination).replace("$", "\\$")),
        ]

    def ask(self, wanted: Segment | str) -> int:
        """Run it to its end, with a server's environment; what was delivered is in
        ``destination``."""
        name = wanted if isinstance(wanted, str) else wanted.name
        self.destination.unlink(missing_ok=True)
        self.done = subprocess.run(
            self.command(name),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=environment(),
        )
        assert self.destination.exists() == (self.done.returncode == 0), self.done
        return self.done.returncode

    def takes(self, segment: Segment) -> None:
        """It is delivered, as it was archived."""
        assert self.ask(segment) == 0, self.done.stderr
        assert self.destination.read_bytes() == self.contents[segment.name]

    def spooled(self) -> list[str]:
        """Segments that lie ready. Nothing else ever lies in the spool but the two FIFOs, and files
        that are asked for.
        """
        found = sorted(file.name for file in self.ahead.spool.iterdir())
        assert all(name in ("asked", "answers") or ASKED_NAME.fullmatch(name) for name in found)
        return [name for name in found if SEGMENT_NAME.fullmatch(name)]


def compressed(content: bytes) -> bytes:
    """As wal-g does it."""
    return bytes(
        lz4.frame.compress(
            content, block_size=lz4.frame.BLOCKSIZE_MAX4MB, content_checksum=True, store_size=False
        )
    )


def until(reached: Callable[[], bool], seconds: float = 20) -> None:
    """Nothing announces what a process of its own has done: look again until it has."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "not reached"
        time.sleep(0.01)


@pytest.fixture
def recovery(short_folder: Path, request: pytest.FixtureRequest) -> Iterator[Recovery]:
    need("wal-g")
    made = Recovery(short_folder / f"r{abs(hash(request.node.name)):x}"[:12])
    made.folder.mkdir()
    yield made
    for ahead in made.started:
        ahead.stop()
    left = [p for p in psutil.process_iter() if str(made.folder) in " ".join(_words(p))]
    shutil.rmtree(made.workspace.socket_directory, ignore_errors=True)
    shutil.rmtree(made.folder, ignore_errors=True)
    assert not left, left


def _words(process: psutil.Process) -> list[str]:
    try:
        return (
            [*process.cmdline(), *process.environ().values()] if process.pid != os.getpid() else []
        )
    except psutil.Error:
        return []


# --- what recovery gets ---


def test_segments_come_in_order_as_holes_where_they_are_empty_and_samples_are_compared(
    recovery: Recovery,
) -> None:
    recovery.drill = {"wal_tool_sample": 4}
    segments = recovery.archive(10)
    recovery.stop_lsn = segments[-1].start_lsn + 100
    ahead = recovery.begin(ahead_segments=4)
    compared = 0
    for segment in segments:
        recovery.takes(segment)
        assert recovery.destination.stat().st_blocks * 512 <= 4 * PAGE
        compared += ahead.order.is_sample(segment.number)
        # a tool that is too slow is asked for fewer
        until(lambda least=compared: ahead.fetched.compared >= least)
    found = recovery.ahead.finish()
    assert found
    assert (found.segments, found.by_reader, found.by_tool) == (10, 10, 0)
    assert found.compared == 4  # the first, every fourth, the last
    assert found.read_bytes == sum(recovery.object(s).stat().st_size for s in segments)
    assert not recovery.ahead.spool.exists()
    assert not recovery.workspace.wal_pid_file.exists()


def test_a_cluster_that_stays_gets_segments_without_holes(recovery: Recovery) -> None:
    segment = recovery.archive(1)[0]
    recovery.begin(sparse=False)
    recovery.takes(segment)
    assert recovery.destination.stat().st_blocks * 512 >= MB
    assert recovery.destination.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("size", [1, 4, 64])
def test_segments_of_any_size(recovery: Recovery, size: int) -> None:
    recovery.size = size * MB
    segments = recovery.archive(3)
    recovery.begin(tool_sample=1)
    for segment in segments:
        recovery.takes(segment)
    assert recovery.ahead.finish().compared >= 1  # type: ignore[union-attr]


def test_no_more_lies_ready_than_was_allowed_and_nothing_beyond_the_target(
    recovery: Recovery,
) -> None:
    segments = recovery.archive(12)
    recovery.stop_lsn = segments[9].start_lsn + 100
    recovery.begin(ahead_segments=4)
    until(lambda: len(recovery.spooled()) == 4)
    for number, segment in enumerate(segments[:10]):
        recovery.takes(segment)
        wanted = [s.name for s in segments[number + 1 : min(number + 5, 10)]]
        until(lambda wanted=wanted: recovery.spooled() == wanted)  # type: ignore[misc]
    recovery.takes(segments[10])  # the record after the target may lie there
    assert recovery.ahead.finish().segments == 11  # type: ignore[union-attr]


def test_recovery_may_go_back_as_after_a_restart(recovery: Recovery) -> None:
    segments = recovery.archive(6)
    recovery.begin(tool_sample=1)
    for segment in (*segments[:4], *segments[1:], segments[5], segments[5]):
        recovery.takes(segment)
    recovery.ahead.finish()


def test_other_compressions_are_found_by_their_suffix(recovery: Recovery) -> None:
    segments = recovery.archive(4)
    for segment in segments[1:3]:  # by the tool itself
        recovery.object(segment).unlink()
        source = recovery.folder / segment.name
        source.write_bytes(recovery.contents[segment.name])
        environment = {
            **recovery.access.tool.environment(),
            "WALG_COMPRESSION_METHOD": "zstd",
            "HOME": str(recovery.folder),
        }
        subprocess.run(
            ["wal-g", "wal-push", source],
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
        )
    recovery.object(segments[3]).unlink()
    (recovery.store / f"{segments[3].name}.br").write_bytes(
        brotli.compress(recovery.contents[segments[3].name], quality=1)
    )
    assert sorted(file.suffix for file in recovery.store.iterdir()) == [
        ".br",
        ".lz4",
        ".zst",
        ".zst",
    ]
    recovery.begin(tool_sample=2)  # not every wal-g is built with brotli
    for segment in segments:
        recovery.takes(segment)
    assert recovery.ahead.finish().by_reader == 4  # type: ignore[union-attr]


def test_what_only_the_tool_can_read_is_fetched_ahead_by_the_tool(recovery: Recovery) -> None:
    segments = recovery.archive(40)
    recovery.begin(readable=False, ahead_segments=20)
    until(lambda: len(recovery.spooled()) == 20)
    for segment in segments:
        recovery.takes(segment)
    found = recovery.ahead.finish()
    assert found
    assert (found.by_reader, found.by_tool) == (0, 40)


def test_keys_in_the_environment_leave_everything_to_the_tool(
    recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery.archive(1)
    for name in (
        "WALG_PGP_KEY",
        "WALG_PGP_KEY_PATH",
        "WALG_LIBSODIUM_KEY",
        "WALG_LIBSODIUM_KEY_PATH",
        "WALG_CSE_KMS_ID",
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, "canary-key")
            ahead = recovery.begin()
            assert not ahead.order.readable
            assert "canary" not in ahead.order.to_json()
            assert "canary" not in " ".join(recovery.process.cmdline())
            ahead.stop()
    assert recovery.begin().order.readable


@pytest.mark.parametrize(
    "name",
    [
        "00000003.history",
        "000000010000000000000003.00000028.backup",
        "000000010000000000000003.partial",
    ],
)
def test_what_is_not_there_is_absent_by_the_tools_word(recovery: Recovery, name: str) -> None:
    recovery.archive(2)
    recovery.begin()
    assert recovery.ask(name) == 1


def test_half_a_segment_is_none(recovery: Recovery) -> None:
    segment = recovery.archive(1)[0]
    recovery.object(segment).rename(recovery.store / f"{segment.name}.partial.lz4")
    recovery.begin()
    assert recovery.ask(segment) == 1


def test_a_place_that_cannot_be_written_is_no_absent_file(recovery: Recovery) -> None:
    segment = recovery.archive(1)[0]
    recovery.begin()
    until(lambda: recovery.spooled() == [segment.name])
    command = recovery.command(segment.name)
    done = subprocess.run(
        [*command[:2], command[2].replace("RECOVERYXLOG", "nowhere/X")],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 255
    recovery.takes(segment)


def test_the_end_of_the_archive_is_told_by_the_tool_and_a_segment_that_comes_later_is_found(
    recovery: Recovery,
) -> None:
    segments = recovery.archive(2)
    recovery.begin()
    for segment in segments:
        recovery.takes(segment)
    late = Segment(1, FIRST + 2, MB)
    assert recovery.ask(late) == 1
    assert f"there is no {late.name}, by the tool's word" in recovery.done.stderr
    recovery.archive(1, first=FIRST + 2)
    recovery.takes(late)


def test_a_gap_is_not_passed_over(recovery: Recovery) -> None:
    segments = recovery.archive(5)
    recovery.object(segments[2]).unlink()
    recovery.begin()
    for segment in segments[:2]:
        recovery.takes(segment)
    assert recovery.ask(segments[2]) == 1


def test_a_timelines_end_is_passed_by_the_file_of_the_new_one_or_the_old(
    recovery: Recovery,
) -> None:
    recovery.timeline, recovery.history = 2, (TimelineSwitch(1, (FIRST + 2) * MB + 5 * PAGE),)
    old = recovery.archive(3, timeline=1)
    new = recovery.archive(2, first=FIRST + 3)
    (recovery.store / "00000002.history.lz4").write_bytes(
        compressed(b"1\t0/505000\tno recovery target specified\n")
    )
    recovery.begin()
    assert recovery.ask("00000002.history") == 0
    assert b"0/505000" in recovery.destination.read_bytes()
    assert recovery.ask("00000002.history") == 0  # recovery asks more than once
    assert recovery.ask("00000003.history") == 1
    for segment in old[:2]:
        recovery.takes(segment)
    # it is not there: the old timeline's will do
    assert recovery.ask(Segment(2, FIRST + 2, MB)) == 1
    for segment in (old[2], *new):
        recovery.takes(segment)
    recovery.ahead.finish()


# --- what must not get through ---


def flipped(content: bytes) -> bytes:
    """One bit in the middle, of the compressed data."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "bit": flipped,
    "end": lambda c: c[:-1],
    "half": lambda c: c[: len(c) // 2],
    "empty": lambda c: b"",
    "garbage": lambda c: b"\xff" * len(c),
    "more": lambda c: c + b"more",
    "short": lambda c: compressed(lz4.frame.decompress(c)[:-PAGE]),
    "zeros": lambda c: compressed(bytes(MB)),
    "header": lambda c: compressed(flip_header(lz4.frame.decompress(c))),
    "other place": lambda c: compressed(segment_bytes(Segment(1, 99, MB))),
    "other cluster": lambda c: compressed(segment_bytes(Segment(1, FIRST + 1, MB), system=1)),
}


def flip_header(content: bytes) -> bytes:
    """A bit of the second page's address."""
    return content[: PAGE + 9] + bytes([content[PAGE + 9] ^ 1]) + content[PAGE + 10 :]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_object_is_named_and_never_delivered(recovery: Recovery, damage: str) -> None:
    segments = recovery.archive(3)
    file = recovery.object(segments[1])
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    recovery.begin()
    recovery.takes(segments[0])
    if damage == "more":  # to the tool that is no damage, and its word counts
        recovery.takes(segments[1])
        return
    assert recovery.ask(segments[1]) == 255
    with pytest.raises(BackupFault) as caught:
        recovery.ahead.finish()
    problem = caught.value.problem
    assert problem.reason == "wal-damaged"
    assert segments[1].name in problem.thing
    assert str(recovery.store.parent) in problem.thing
    assert problem.found


def test_damage_that_recovery_does_not_reach_is_no_fault(recovery: Recovery) -> None:
    segments = recovery.archive(3)
    recovery.object(segments[2]).write_bytes(b"")
    recovery.begin()
    until(lambda: len(recovery.spooled()) == 2)
    recovery.takes(segments[0])
    assert recovery.ahead.finish()


LYING = 'wal-g wal-fetch "$1" "$2" && printf x | dd of="$2" bs=1 seek=5000 conv=notrunc 2>/dev/null'


def test_a_tool_that_fetches_other_bytes_stops_recovery(recovery: Recovery) -> None:
    segments = recovery.archive(30)
    ahead = recovery.begin(ahead_segments=2)
    ahead.stop()
    words = replace(ahead.order.tool, fetch=("sh", "-c", LYING, "tool", "%f", "%p"))
    recovery.begin(tool=words, tool_sample=1, ahead_segments=2)
    until(lambda: recovery.ahead.fault is not None)
    assert recovery.ask(segments[-1]) == 255
    assert not recovery.spooled()
    with pytest.raises(BackupFault) as caught:
        recovery.ahead.finish()
    assert caught.value.problem.reason == "wal-differs"
    assert "00000001" in caught.value.problem.thing


def test_a_history_that_differs_stops_recovery(recovery: Recovery) -> None:
    recovery.timeline, recovery.history = 2, (TimelineSwitch(1, FIRST * MB),)
    recovery.archive(1)
    (recovery.store / "00000002.history.lz4").write_bytes(
        compressed(b"1\t0/505000\tno recovery target specified\n" * 200)
    )
    ahead = recovery.begin()
    ahead.stop()
    recovery.begin(tool=replace(ahead.order.tool, fetch=("sh", "-c", LYING, "tool", "%f", "%p")))
    assert recovery.ask("00000002.history") == 255
    with pytest.raises(BackupFault) as caught:
        recovery.ahead.finish()
    assert caught.value.problem.reason == "wal-differs"


# --- hosts and stores that fail ---


def test_a_prefetcher_that_is_killed_stops_recovery_and_nobody_else_fetches(
    recovery: Recovery,
) -> None:
    segments = recovery.archive(4)
    recovery.begin(ahead_segments=1)
    recovery.takes(segments[0])
    until(lambda: recovery.spooled() == [segments[1].name])
    recovery.process.suspend()  # so that it cannot answer
    recovery.takes(segments[1])
    waiting = subprocess.Popen(recovery.command(segments[2].name), env=environment())
    until(lambda: "want" in waiting_for(waiting.pid) or waiting.poll() is not None)
    assert waiting.poll() is None
    recovery.process.kill()
    assert waiting.wait(20) == 255
    for wanted in (segments[3], Segment(1, 99, MB), "00000002.history"):
        assert recovery.ask(wanted) == 255
        assert "nobody fetches WAL" in recovery.done.stderr
    with pytest.raises(CouldNotVerify) as caught:
        recovery.ahead.finish()
    assert (caught.value.problem.reason, caught.value.problem.found) == (
        "wal-fetch-ended",
        "ended by signal SIGKILL",
    )


def waiting_for(pid: int) -> str:
    """``want`` once a shell sleeps in reading the answer."""
    state = Path(f"/proc/{pid}/wchan")
    return "want" if "pipe" in (state.read_text() if state.exists() else "") else ""


def test_whoever_started_it_is_killed_and_it_ends_too(recovery: Recovery) -> None:
    recovery.archive(3)
    ahead = recovery.begin()
    ahead.stop()
    code = (
        "import sys, time; from pathlib import Path; from pgdrill.recovery.wal_prefetch.client"
        " import Places, WalAhead;from pgdrill.recovery.wal_prefetch.order import Order;order ="
        " Order.from_json(sys.argv[1]); spool, pid_file = Path(order.spool), Path(sys.argv[2]);a ="
        " WalAhead(Places(spool, Path(order.incoming), pid_file.with_name('s'), pid_file), {});"
        " a.start(order);print(a._process.pid, flush=True); time.sleep(60)"
    )
    words = [
        sys.executable,
        "-c",
        code,
        ahead.order.to_json(),
        str(recovery.workspace.wal_pid_file),
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))  # type: ignore[union-attr]
        until(lambda: len(recovery.spooled()) == 3)
        parent.send_signal(signal.SIGKILL)
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running()


def test_destroying_the_drill_ends_it(recovery: Recovery) -> None:
    recovery.archive(3)
    recovery.begin()
    process = recovery.process
    recovery.workspace.destroy()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert not recovery.workspace.directory.exists()


@pytest.fixture
def small_disk(recovery: Recovery) -> Iterator[Callable[[str], None]]:
    """Puts the drill's folder on a disk of that size."""
    mounted: list[Path] = []

    def mount(size: str) -> None:
        recovery.workspace.directory.mkdir(parents=True)
        done = subprocess.run(
            [
                "mount",
                "-t",
                "tmpfs",
                "-o",
                f"size={size},mode=700",
                "pgdrill",
                recovery.workspace.directory,
            ],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip("no right to mount a small disk here")
        mounted.append(recovery.workspace.directory)

    yield mount
    for ahead in recovery.started:
        ahead.stop()
    for place in mounted:
        subprocess.run(["umount", place], check=True)


def test_a_spool_without_room_for_all_goes_on_with_what_fits(
    recovery: Recovery, small_disk: Callable[[str], None]
) -> None:
    segments = recovery.archive(20, pages=128)  # whole ones: no holes
    small_disk("5m")
    recovery.begin()
    for segment in segments:
        recovery.takes(segment)
    assert recovery.ahead.finish().by_reader >= 20  # type: ignore[union-attr]


def test_a_disk_without_room_for_a_single_segment_is_named(
    recovery: Recovery, small_disk: Callable[[str], None]
) -> None:
    segments = recovery.archive(3, pages=128)
    small_disk("512k")
    recovery.begin()
    assert recovery.ask(segments[0]) == 255
    with pytest.raises(CouldNotVerify) as caught:
        recovery.ahead.finish()
    assert caught.value.problem.reason == "no-space"
    assert str(recovery.ahead.spool) in caught.value.problem.thing


def test_a_store_that_cannot_be_reached_is_nobodys_broken_backup(recovery: Recovery) -> None:
    segments = recovery.archive(2)
    access = recovery.access
    repository = access.cluster.repository.model_copy(
        update={"url": "s3://b/p", "endpoint_url": "http://127.0.0.1:9"}
    )
    keys = Credentials(
        {}, {"AWS_ACCESS_KEY_ID": "canary-key", "AWS_SECRET_ACCESS_KEY": "canary-secret"}
    )
    gone = Access(access.cluster.model_copy(update={"repository": repository}), keys)
    backup = BaseBackup("base", SYSTEM, MAJOR, 1, FIRST * MB + 40, 0, NOW, NOW)
    recovery.workspace.create()
    ahead = wal_ahead(gone, recovery.workspace)
    recovery.started.append(ahead)
    ahead.start(order_for(gone, recovery.workspace, Plan(backup, None, 1, None, 0, {}, 0, 1), MB))
    assert recovery.ask(segments[0]) == 255
    with pytest.raises(CouldNotVerify) as caught:
        ahead.finish()
    assert caught.value.problem.reason == "storage-unreachable"
    assert "canary" not in str(caught.value)


def test_enough_is_enough(recovery: Recovery) -> None:
    recovery.archive(200, pages=1)
    recovery.begin()
    until(lambda: len(recovery.spooled()) >= 1)
    began = time.monotonic()
    found = recovery.ahead.finish()
    assert time.monotonic() - began < 2
    assert found
    assert found.segments <= 64


def test_turned_off_everything_is_the_tools_and_nothing_is_fetched_before_it_is_asked_for(
    recovery: Recovery,
) -> None:
    segments = recovery.archive(4)
    recovery.drill = {"wal_fetch": "tool"}
    recovery.begin()
    for segment in segments:
        recovery.takes(segment)
    assert recovery.ask(Segment(1, FIRST + 4, MB)) == 1
    assert recovery.ask("00000002.history") == 1
    until(lambda: recovery.ahead.fetched.segments == 4)
    assert (recovery.ahead.fetched.by_tool, recovery.ahead.fetched.read_bytes) == (4, 0)
    assert recovery.ahead.finish() is None


def test_turned_off_a_segment_of_the_wrong_size_is_not_delivered(recovery: Recovery) -> None:
    segment = recovery.archive(1)[0]
    recovery.object(segment).write_bytes(compressed(recovery.contents[segment.name][:-PAGE]))
    recovery.drill = {"wal_fetch": "tool"}
    recovery.begin()
    assert recovery.ask(segment) == 255
    with pytest.raises(BackupFault) as caught:
        recovery.ahead.finish()
    assert caught.value.problem.reason == "wal-damaged"


def test_two_at_once_each_get_an_answer(recovery: Recovery) -> None:
    """A shell of before that nobody waits for any more must not eat the answer of the next."""
    segments = recovery.archive(4)
    recovery.begin(ahead_segments=1)
    recovery.process.suspend()
    orphan = subprocess.Popen(recovery.command(segments[0].name), env=environment())
    until(lambda: "want" in waiting_for(orphan.pid))
    orphan.kill()
    orphan.wait()
    threading.Timer(0.2, recovery.process.resume).start()
    recovery.takes(segments[0])
    recovery.takes(segments[1])


def test_no_tool_that_is_just_being_started_outlives_it(recovery: Recovery) -> None:
    recovery.archive(40, pages=1)
    for _ in range(6):  # the fixture looks for what is left
        ahead = recovery.begin(readable=False)
        until(
            lambda: any(
                "wal-fetch" in _words(child) for child in recovery.process.children(recursive=True)
            )
        )
        ahead.stop()


# --- code in the restored server, which owns the spool ---


def say(recovery: Recovery, data: bytes) -> None:
    """Write into the FIFO as anybody in the server can."""
    with (recovery.ahead.spool / "asked").open("wb", buffering=0) as fifo:
        for start in range(0, len(data), 4096):
            fifo.write(data[start : start + 4096])


def test_links_in_the_spool_are_replaced_and_never_followed(recovery: Recovery) -> None:
    segments = recovery.archive(4)
    victims = recovery.folder / "victims"
    victims.mkdir()
    (victims / "file").write_text("production's")
    recovery.begin(ahead_segments=1, tool_sample=1)
    spool = recovery.ahead.spool
    until(lambda: recovery.spooled() == [segments[0].name])
    recovery.process.suspend()
    (spool / segments[1].name).symlink_to(victims / "file")
    for name in (
        segments[2].name,
        "00000002.history",
        *(f"{s.name}.{end}" for s in segments for end in (*range(9), "tmp")),
        "tool",
        "samples",
    ):
        (spool / name).symlink_to(victims)
    recovery.process.resume()
    recovery.takes(segments[0])
    until(
        lambda: (spool / segments[1].name).is_file() and not (spool / segments[1].name).is_symlink()
    )
    for segment in segments[1:]:
        recovery.takes(segment)
    assert recovery.ask("00000002.history") == 1
    assert recovery.ahead.finish().compared >= 1  # type: ignore[union-attr]
    assert [file.name for file in victims.iterdir()] == ["file"]
    assert (victims / "file").read_text() == "production's"


def test_a_spool_that_was_moved_away_for_a_link_is_not_written_through(recovery: Recovery) -> None:
    segments = recovery.archive(4)
    victims = recovery.folder / "victims"
    victims.mkdir()
    recovery.begin(ahead_segments=1)
    until(lambda: recovery.spooled() == [segments[0].name])
    spool = recovery.ahead.spool
    moved = spool.rename(spool.with_name("elsewhere"))
    spool.symlink_to(victims)
    for name in ("asked", "answers"):
        os.mkfifo(victims / name)
    (moved / segments[0].name).unlink()
    with (moved / "asked").open("wb", buffering=0) as fifo:
        fifo.write(f"took {segments[0].name}\nwant {segments[2].name}\n".encode())
    until((moved / segments[2].name).exists)
    recovery.ahead.stop()
    assert sorted(file.name for file in victims.iterdir()) == ["answers", "asked"]
    assert spool.is_symlink()  # what the server made of its folder goes with the drill's


def test_a_folder_in_a_segments_place_stops_recovery(recovery: Recovery) -> None:
    segments = recovery.archive(2)
    recovery.begin(ahead_segments=1)
    until(lambda: recovery.spooled() == [segments[0].name])
    (recovery.ahead.spool / segments[1].name).mkdir()
    recovery.takes(segments[0])
    assert recovery.ask(segments[1]) == 255
    with pytest.raises(CouldNotVerify) as caught:
        recovery.ahead.finish()
    assert caught.value.problem.reason == "not-delivered"


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "x",
        "/etc/passwd",
        "00000001000000000000000G",
        "0000000100000000FFFFFFFF",
        "-",
        "00000002.history.tmp",
    ],
)
def test_a_request_for_anything_but_wal_is_refused_and_named(recovery: Recovery, name: str) -> None:
    segment = recovery.archive(1)[0]
    recovery.begin()
    recovery.takes(segment)
    assert recovery.ask(name) == 255
    with pytest.raises(CouldNotVerify) as caught:
        recovery.ahead.finish()
    assert caught.value.problem.reason == "strange-request"
    assert repr(name) in caught.value.problem.found


def test_floods_and_rubbish_cost_no_memory_and_recovery_goes_on(recovery: Recovery) -> None:
    segments = recovery.archive(4)
    recovery.begin(ahead_segments=1)
    recovery.takes(segments[0])
    before = recovery.process.memory_info().rss
    say(recovery, b"x" * 2**24 + b"\n")
    say(recovery, b"want \0\x1b]52;c;\n" * 4_000)
    say(recovery, b"".join(b"want %08X.history\n" % n for n in range(4_000)))
    say(recovery, b"".join(b"want %024X\n" % n for n in range(4_000)))
    say(recovery, b"".join(b"took 00000001%08X%08X\n" % (n, n % 4096) for n in range(4_000)))
    for segment in segments[1:]:
        recovery.takes(segment)
    assert recovery.process.memory_info().rss - before < 32 * MB
    assert recovery.process.num_threads() < 40


def test_whoever_asks_for_all_and_takes_none_does_not_fill_the_disk(recovery: Recovery) -> None:
    segments = recovery.archive(60)
    recovery.begin(ahead_segments=2)
    for number, segment in enumerate(segments):
        say(recovery, f"want {segment.name}\n".encode())
        until(lambda name=segment.name: name in recovery.spooled())  # type: ignore[misc]
        if number % 3 == 0:
            say(recovery, f"took {segment.name}\n".encode())  # a lie
    assert len(recovery.spooled()) <= 2 + 8 + 2
