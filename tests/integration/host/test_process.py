"""The runner with real processes: limits, ends, masks, and what happens when pgdrill itself is
killed.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil
import pytest

from pgdrill.host.process import (
    Command,
    ProcessTimeout,
    Runner,
    Stopped,
    end_group,
    end_marked,
    mark_process,
)

SECRET = "canary-5eCr3t"


def python(code: str, **more: object) -> Command:
    return Command((sys.executable, "-c", code), **more)  # type: ignore[arg-type]


def shell(code: str, **more: object) -> Command:
    return Command(("sh", "-c", code), **more)  # type: ignore[arg-type]


def wait_for(file: Path, seconds: float = 10) -> int:
    """The pid that a process writes down when it is ready."""
    until = time.monotonic() + seconds
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < until, f"{file} was never written"
        time.sleep(0.02)
    return int(file.read_text())


def gone(pid: int, seconds: float = 6) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_output_and_log_stay_apart() -> None:
    done = Runner().run(shell("echo '{}'; echo 'INFO: working' >&2"))
    assert (done.code, done.stdout, done.last_lines) == (0, "{}", ("INFO: working",))


def test_a_failure_is_told_with_its_meaning_and_last_words() -> None:
    done = Runner().run(shell("echo no bucket >&2; exit 74", exit_codes={74: "no such WAL"}))
    assert done.ended == "exit code 74 (no such WAL): no bucket"
    assert Runner().run(shell("kill -9 $$")).ended == "signal SIGKILL: no output"


def test_a_million_lines_do_not_fill_the_memory_of_the_error() -> None:
    done = Runner().run(
        shell("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i >&2; done; exit 1"),
        quiet=True,
    )
    assert len(done.last_lines) == 25
    assert done.last_lines[-1] == "line 3000"


def test_bytes_that_are_no_text_do_no_harm() -> None:
    done = Runner().run(shell(r"printf '\377\376\n' >&2; exit 1"))
    assert done.code == 1


def test_secrets_are_masked_before_anything_sees_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    command = shell(
        'echo "$AWS_SECRET_ACCESS_KEY"; echo "key=$PGPASSWORD end" >&2; exit 1',
        environment={"AWS_SECRET_ACCESS_KEY": SECRET, "PGPASSWORD": SECRET + "2"},
    )
    done = Runner().run(command)
    assert SECRET not in caplog.text + done.stdout + done.ended + str(command)
    assert "key=*** end" in done.last_lines


def test_a_time_limit_ends_the_whole_family(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ProcessTimeout) as caught:
        Runner().run(
            shell(f"echo busy >&2; sleep 60 & echo $! >{tmp_path}/pid; wait"), timeout_seconds=1
        )
    assert time.monotonic() - started < 5
    assert "busy" in str(caught.value)
    assert gone(wait_for(tmp_path / "pid"))


def test_silence_is_told_from_work() -> None:
    with pytest.raises(ProcessTimeout) as caught:
        Runner().run(shell("sleep 60"), stall_seconds=1.5)
    assert "moved no byte" in str(caught.value)
    # The same time with something moving all along is no stall.
    working = (
        "import time\nfor _ in range(30): open('/dev/null', 'w').write('x' * 10_000);"
        " time.sleep(0.1)"
    )
    assert Runner().run(python(working), stall_seconds=1.5).code == 0


def test_a_process_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ProcessTimeout):
        Runner().run(
            python(
                "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
                f" open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
            ),
            timeout_seconds=1,
        )
    assert time.monotonic() - started < 8
    assert gone(wait_for(tmp_path / "pid"))


@pytest.mark.parametrize("stubborn", [False, True])
def test_stopping_ends_everything_within_airflows_five_seconds(
    tmp_path: Path, stubborn: bool
) -> None:
    runner, pid = Runner(), tmp_path / "pid"
    trap = "trap '' TERM;" if stubborn else ""
    seconds: list[float] = []

    def stop() -> None:
        wait_for(pid)
        started = time.monotonic()
        runner.stop()
        seconds.append(time.monotonic() - started)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped):
        runner.run(shell(f"{trap} sleep 60 & echo $! >{pid}; wait; wait"))
    stopper.join()
    assert seconds[0] < 4.5
    assert gone(wait_for(pid))


def test_nothing_is_started_for_long_after_a_stop() -> None:
    runner = Runner()
    runner.stop()
    started = time.monotonic()
    with pytest.raises(Stopped):
        runner.run(shell("sleep 60"))
    assert time.monotonic() - started < 5


def test_a_hopeless_program_is_not_waited_for(tmp_path: Path) -> None:
    """wal-g sleeps a minute before it tries a torn part again, and exits with 0 when it is
    ended."""
    started = time.monotonic()
    done = Runner().run(
        python(
            "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0));"
            " print('Extraction error in part_001: unexpected EOF', file=sys.stderr, flush=True);"
            " time.sleep(60)",
            hopeless="Extraction error",
        )
    )
    assert time.monotonic() - started < 5
    assert done.code != 0
    assert "unexpected EOF" in done.ended


def test_bytes_written_are_told_about_once_a_second() -> None:
    seen: list[int] = []
    code = (
        "import time\nf = open('/dev/null', 'wb', 0)\nfor _ in range(3): f.write(b'x' * 100000);"
        " time.sleep(1)"
    )
    Runner().run(python(code), on_bytes=seen.append)
    assert max(seen) >= 200_000
    assert seen == sorted(seen)


def _run_and_hang(pid_file: str, marker: str) -> None:
    Runner(Path(marker)).run(
        Command(
            (
                sys.executable,
                "-c",
                f"import os, time; open({pid_file!r}, 'w').write(str(os.getpid())); time.sleep(60)",
            )
        )
    )


def test_a_killed_pgdrill_takes_its_tool_with_it(tmp_path: Path) -> None:
    pid_file, marker = tmp_path / "pid", tmp_path / "tool.pid"
    process = multiprocessing.get_context("spawn").Process(
        target=_run_and_hang, args=(str(pid_file), str(marker))
    )
    process.start()
    tool = wait_for(pid_file)
    assert json.loads(marker.read_text())["pid"] == tool
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert gone(tool)
    assert not end_marked(marker)  # nothing left to end


def test_a_marked_process_is_ended_by_another_and_nobody_elses(tmp_path: Path) -> None:
    marker = tmp_path / "tool.pid"
    process = psutil.Popen(["sleep", "60"], start_new_session=True)
    mark_process(marker, process.pid)
    mark = json.loads(marker.read_text())
    # the number is somebody else's by now
    marker.write_text(json.dumps(mark | {"started": mark["started"] - 100}))
    assert not end_marked(marker)
    assert process.is_running()
    marker.write_text(json.dumps(mark))
    assert end_marked(marker)
    process.wait(5)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "created": 1}', "null"]
)
def test_a_broken_mark_ends_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "mark").write_text(text)
    assert not end_marked(tmp_path / "mark")
    assert not end_marked(tmp_path / "none")


def test_ending_what_has_ended_is_fine() -> None:
    process = psutil.Popen(["true"])
    process.wait()
    end_group(process.pid)


def test_a_consumer_gets_stdout_as_bytes_and_how_the_process_ended() -> None:
    told: list[object] = []

    def consume(pipe: IO[bytes], exit_code: Callable[[], int]) -> None:
        told.extend((pipe.read(), exit_code()))

    done = Runner().run(
        Command(("sh", "-c", r"printf '\377\000x'; echo said >&2; exit 3")), on_stdout=consume
    )
    assert told == [b"\xff\0x", 3]
    assert (done.code, done.stdout, done.last_lines) == (3, "", ("said",))


def test_what_a_consumer_raises_ends_the_process_and_is_raised() -> None:
    def consume(pipe: IO[bytes], exit_code: Callable[[], int]) -> None:
        pipe.read(1)
        raise ValueError("enough")

    started = time.monotonic()
    with pytest.raises(ValueError, match="enough"):
        Runner().run(Command(("sh", "-c", "yes & sleep 60")), on_stdout=consume)
    assert time.monotonic() - started < 10


def test_lines_are_changed_or_dropped_before_anything_keeps_them() -> None:
    done = Runner().run(
        Command(("sh", "-c", "echo keep one >&2; echo row content >&2")),
        on_line=lambda line: line.upper() if line.startswith("keep") else None,
    )
    assert done.last_lines == ("KEEP ONE",)
