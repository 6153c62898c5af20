"""The drill's side: starts the prefetcher, follows what it tells, ends it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from pgdrill import errors
from pgdrill.errors import CouldNotVerify, PgdrillError, TimedOut
from pgdrill.process import end_group, mark_process, mask
from pgdrill.report import WalFetched
from pgdrill.tuning import NO_THREADS
from pgdrill.walfetch.order import Order

logger = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("spool.sh")


class WalAhead:
    """A spool with the process that fills it. Ends with this process, however that ends.

    As a context: the process is there from entering on, for starting takes longer than a look at the repository; it fetches
    once it has its order. With ``off`` everything is left to the tool. ``before``: words before its command.
    """

    def __init__(
        self, spool: Path, environment: Mapping[str, str], pid_file: Path, *, settle_seconds: float = 600, off: bool = False,
        before: tuple[str, ...] = (),
    ) -> None:
        self.spool, self.pid_file = spool, pid_file
        self.order: Order | None = None
        self.settle_seconds, self.off, self.before = settle_seconds, off, before
        self._environment = {**os.environ, **environment, **NO_THREADS}
        self._process: subprocess.Popen[str] | None = None
        self._readers: list[threading.Thread] = []
        self.fetched = WalFetched()
        self.fault: PgdrillError | None = None

    def __enter__(self) -> WalAhead:
        self._launch()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def expect(self, segment_bytes: int) -> None:
        """What the restored cluster says of its segments' size: begin anew where another one was thought."""
        if self.order and segment_bytes != self.order.segment_bytes:
            self.stop()
            self.start(replace(self.order, segment_bytes=segment_bytes))

    def start(self, order: Order) -> None:
        """Start fetching."""
        self.order = order
        if self._process is None or self._process.poll() is not None:
            self._launch()
        with contextlib.suppress(BrokenPipeError):
            self._say(order.to_json())

    def _launch(self) -> None:
        if self.off:
            return
        shutil.rmtree(self.spool, ignore_errors=True)
        self.spool.mkdir(mode=0o700, parents=True)
        ends = []
        for name in ("asked", "answers"):
            os.mkfifo(self.spool / name, 0o600)
            ends.append(os.open(self.spool / name, os.O_RDWR | os.O_NONBLOCK))
        # setpriv: the kernel ends it even when this process is SIGKILLed and can end nothing itself.
        guard = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
        try:
            # It holds the FIFOs' ends from its first moment on, and nobody else does: recovery never finds nobody
            # there before it died, and notices at once when it has.
            self._process = subprocess.Popen(
                [*guard, *self.before, sys.executable, "-m", "pgdrill.walfetch", *map(str, ends)], env=self._environment, pass_fds=ends,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                start_new_session=True, cwd="/",
            )  # fmt: skip
        finally:
            for end in ends:
                os.close(end)
        mark_process(self.pid_file, self._process.pid)
        self._readers = [
            threading.Thread(target=read, args=(stream, use), daemon=True)
            for stream, use in ((self._process.stdout, self._told), (self._process.stderr, self._logged))
        ]
        for reader in self._readers:
            reader.start()

    def restore_command(self, tool_command: str) -> str:
        """Take from the spool, wait for what is on its way, and where nobody fetches ahead any more run the tool."""
        if self.off:
            return tool_command
        return f'f="%f" p="%p" spool={shlex.quote(str(self.spool))}; . {shlex.quote(str(SCRIPT))}; {tool_command}'

    def show(self, progress: Callable[[str, int, int], None], expected_segments: int) -> None:
        """Report how far the fetching is; nothing but a sign of life where the tool does it alone."""
        if self._process is None or self.order is None:
            progress("replay", 0, 0)
            return
        total = max(expected_segments, self.fetched.segments) * self.order.segment_bytes
        progress("replay", self.fetched.segments * self.order.segment_bytes, total)

    def finish(self) -> WalFetched | None:
        """Fetch nothing more; wait for the last comparisons. Raises what was found wrong, also what recovery overlooked."""
        started = time.monotonic()
        if self._process is not None:
            try:
                with contextlib.suppress(BrokenPipeError):
                    self._say("enough")
                self._process.wait(self.settle_seconds)
            except subprocess.TimeoutExpired:
                raise TimedOut(
                    "stalled", "comparing fetched WAL with the tool's", found=f"no end within {self.settle_seconds:.0f} s",
                    expected="the tool's own segments", mend="see what the tool waits for (store, network)",
                ) from None  # fmt: skip
        fetched = self.stop()
        if self.fault:
            raise self.fault
        return fetched and fetched.model_copy(update={"settle_seconds": time.monotonic() - started})

    def stop(self) -> WalFetched | None:
        """End it at once, with every tool it runs; gives what it told until then, None where it never ran."""
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            end_group(process.pid)
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        process.wait()
        for reader in self._readers:
            reader.join()
        self.pid_file.unlink(missing_ok=True)
        shutil.rmtree(self.spool, ignore_errors=True)
        return self.fetched

    def _say(self, line: str) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _told(self, line: str) -> None:
        said = json.loads(line)
        if counts := said.get("counts"):
            ahead = self.order.ahead_segments if self.order else 0
            self.fetched = WalFetched(**counts, ahead_segments=ahead)
        if fault := said.get("fault"):
            self.fault = self.fault or _as_error(fault)

    def _logged(self, line: str) -> None:
        logger.warning("wal ahead: %s", mask(line.rstrip("\n"), self._environment))


def _as_error(fault: dict[str, Any]) -> PgdrillError:
    """An error of the same class as the prefetcher's."""
    kind = getattr(errors, fault.pop("kind"), CouldNotVerify)
    reason, thing = fault.pop("reason"), fault.pop("thing")
    made: PgdrillError = kind(reason, thing, **fault)
    return made


def read(stream: IO[str], use: Callable[[str], None]) -> None:
    """Hand on every line until the process has ended."""
    with stream:
        for line in stream:
            use(line)
