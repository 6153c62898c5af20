"""wal.sh between PostgreSQL and a tool: every way a tool can end, with tools made of shell
lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pgdrill.repository.tools.server_commands import WAL_SCRIPT

BYTES = 1024
SEGMENT = "000000010000000000000003"


def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(WAL_SCRIPT), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        cwd=cwd,
    )


def fetch(
    destination: Path, tool: str, *, name: str = SEGMENT, absent: int = 74
) -> subprocess.CompletedProcess[str]:
    return run("fetch", absent, BYTES, name, destination, "sh", "-c", tool, "tool", destination)


def push(source: Path, tool: str = ":", *, name: str = SEGMENT) -> subprocess.CompletedProcess[str]:
    return run("push", BYTES, name, source, "sh", "-c", tool, "tool", source)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """A path with everything in it that a careless script trips over."""
    folder = tmp_path / "pg wal's $HOME *"
    folder.mkdir()
    return folder / "RECOVERY XLOG"


WHOLE = f'head -c {BYTES} /dev/zero >"$1"'


def test_a_whole_segment_is_delivered(destination: Path) -> None:
    assert fetch(destination, WHOLE).returncode == 0
    assert destination.stat().st_size == BYTES


@pytest.mark.parametrize(
    ("tool_code", "code"),
    [(74, 1), (1, 255), (2, 255), (73, 255), (75, 255), (127, 255), (255, 255)],
)
def test_only_the_tools_own_word_for_absent_lets_recovery_end(
    destination: Path, tool_code: int, code: int
) -> None:
    assert fetch(destination, f"exit {tool_code}").returncode == code
    assert not destination.exists()


@pytest.mark.parametrize(("tool_code", "code"), [(1, 1), (74, 255), (2, 255), (4, 255)])
def test_another_tool_has_another_word_for_absent(
    destination: Path, tool_code: int, code: int
) -> None:
    assert fetch(destination, f"exit {tool_code}", absent=1).returncode == code


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "PIPE"])
def test_a_tool_that_is_killed_is_no_absent_file(destination: Path, name: str) -> None:
    done = fetch(destination, f'head -c 10 /dev/zero >"$1"; kill -{name} $$')
    assert done.returncode == 255
    assert not destination.exists()


def test_a_tool_that_is_not_installed_is_no_absent_file(destination: Path) -> None:
    done = run("fetch", 74, BYTES, SEGMENT, destination, "/nowhere/wal-g", "wal-fetch")
    assert done.returncode == 255


@pytest.mark.parametrize("size", [0, 1, BYTES - 1, BYTES + 1])
def test_a_segment_of_another_size_is_refused_and_removed(destination: Path, size: int) -> None:
    done = fetch(destination, f'head -c {size} /dev/zero >"$1"')
    assert done.returncode == 255
    assert not destination.exists()
    assert SEGMENT in done.stderr
    assert str(BYTES) in done.stderr


def test_success_without_a_file_is_no_success(destination: Path) -> None:
    assert fetch(destination, ":").returncode == 255


def test_what_a_failed_tool_wrote_is_removed(destination: Path) -> None:
    assert fetch(destination, f"{WHOLE}; exit 1").returncode == 255
    assert not destination.exists()


def test_the_leavings_of_a_killed_fetch_do_not_block_the_next(destination: Path) -> None:
    destination.write_text("torn")
    assert fetch(destination, f'test ! -e "$1" && {WHOLE}').returncode == 0
    assert destination.stat().st_size == BYTES


def test_no_leavings_of_before_can_pass_for_a_segment(destination: Path) -> None:
    destination.write_bytes(b"\0" * BYTES)
    assert fetch(destination, "exit 74").returncode == 1
    assert not destination.exists()


@pytest.mark.parametrize(
    "name", ["00000002.history", f"{SEGMENT}.00000028.backup", f"{SEGMENT}.partial"]
)
@pytest.mark.parametrize(("size", "code"), [(40, 0), (0, 255)])
def test_other_files_just_have_content(destination: Path, name: str, size: int, code: int) -> None:
    assert fetch(destination, f'head -c {size} /dev/zero >"$1"', name=name).returncode == code


def test_what_the_tool_says_reaches_the_servers_log(destination: Path) -> None:
    assert "no bucket" in fetch(destination, "echo no bucket >&2; exit 1").stderr


def test_a_relative_path_is_taken_from_the_data_directory(tmp_path: Path) -> None:
    done = run(
        "fetch",
        74,
        BYTES,
        SEGMENT,
        "RECOVERYXLOG",
        "sh",
        "-c",
        WHOLE,
        "tool",
        "RECOVERYXLOG",
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert (tmp_path / "RECOVERYXLOG").stat().st_size == BYTES


@pytest.fixture
def source(destination: Path) -> Path:
    destination.write_bytes(b"\0" * BYTES)
    return destination


def test_a_whole_segment_is_archived_and_kept(source: Path) -> None:
    assert push(source, 'test "$(wc -c <"$1")" -eq 1024').returncode == 0
    assert source.exists()


@pytest.mark.parametrize("tool_code", [1, 2, 74, 127, 255])
def test_any_failure_of_a_push_is_tried_again_by_the_server(source: Path, tool_code: int) -> None:
    # above 125 the archiver itself would be ended
    assert push(source, f"exit {tool_code}").returncode == 1


def test_a_push_that_is_killed_is_tried_again(source: Path) -> None:
    assert push(source, "kill -KILL $$").returncode == 1


@pytest.mark.parametrize("size", [0, 10, BYTES + 1])
def test_no_torn_segment_is_archived(source: Path, size: int) -> None:
    source.write_bytes(b"\0" * size)
    done = push(source, "touch pushed", name=SEGMENT)
    assert done.returncode == 1
    assert "refusing" in done.stderr
    assert not Path("pushed").exists()


def test_a_file_that_is_gone_is_not_archived(tmp_path: Path) -> None:
    assert push(tmp_path / "gone").returncode == 1


def test_a_short_history_file_is_archived(source: Path) -> None:
    source.write_text("1\t0/3000000\tno recovery target specified\n")
    assert push(source, name="00000002.history").returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["pull"],
        ["--help"],
        ["fetch", "74", "1024", "x"],
        ["fetch", "74", "1024", "x", "y"],
        ["push"],
    ],
)
def test_another_mode_stops_the_server_rather_than_ending_recovery(words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 255
    assert "wal.sh" in done.stderr


def test_ending_the_group_ends_the_tool_too(tmp_path: Path) -> None:
    """As PostgreSQL does it at a fast shutdown: the signal goes to the group."""
    pid_file = tmp_path / "pid"
    process = subprocess.Popen(
        [
            "sh",
            str(WAL_SCRIPT),
            "fetch",
            "74",
            str(BYTES),
            SEGMENT,
            str(tmp_path / "x"),
            sys.executable,
            "-c",
            f"import os, time; open({str(pid_file)!r} + '.new', 'w').write(str(os.getpid()));"
            f" os.rename({str(pid_file)!r} + '.new', {str(pid_file)!r}); time.sleep(60)",
        ],
        start_new_session=True,
    )
    while not pid_file.exists():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(5) != 1
    tool = int(pid_file.read_text())
    try:
        os.waitpid(tool, 0)
    except ChildProcessError:
        for _ in range(100):
            if (
                not Path(f"/proc/{tool}").exists()
                or " Z " in Path(f"/proc/{tool}/stat").read_text()
            ):
                break
            signal.sigtimedwait([], 0.05)
        else:
            pytest.fail("the tool goes on")
