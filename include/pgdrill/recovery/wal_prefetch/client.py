"""The drill's side of the prefetcher: it starts the process, follows what it tells, and ends it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from pgdrill import errors
from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError, TimedOut
from pgdrill.host.process import end_group, mark_process, mask
from pgdrill.host.tuning import NO_THREADS
from pgdrill.postgres.shell_words import shell_word
from pgdrill.recovery.wal_prefetch.order import Order
from pgdrill.reports.model import WalFetched

logger = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("spool.sh")
FIFOS = ("asked", "answers")


@dataclass(frozen=True, slots=True)
class Places:
    """Where its files lie.

    ``incoming`` is a folder of the same file system as ``spool`` that the restored server does not
    see, ``script`` becomes its restore_command's.
    """

    spool: Path
    incoming: Path
    script: Path
    pid_file: Path


class WalAhead:
    """A spool with the process that fills it, the only one with the repository's keys.

    Ends with this one, however that ends.

    As a context: the process is there from entering on, for starting takes longer than a look at
    the repository; it fetches once it has its order. ``owner`` is the user the restored server runs
    as, if that is another one. ``before``: words before the process's command.
    """

    def __init__(
        self,
        places: Places,
        environment: Mapping[str, str],
        *,
        settle_seconds: float = 600,
        owner: int | None = None,
        before: tuple[str, ...] = (),
    ) -> None:
        self.spool, self.incoming = places.spool, places.incoming
        self.script, self.pid_file = places.script, places.pid_file
        self.order: Order | None = None
        self.settle_seconds, self.owner, self.before = settle_seconds, owner, before
        self._over = False
        self._environment = {**os.environ, **environment, **NO_THREADS}
        self._process: subprocess.Popen[str] | None = None
        self._readers: list[threading.Thread] = []
        self.fetched = WalFetched()
        self.fault: PgdrillError | None = None
        # the first cut: where, in which segment
        self._barred: tuple[int, str, PgdrillError] | None = None

    def __enter__(self) -> WalAhead:
        self._launch()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def expect(self, segment_bytes: int) -> None:
        """Begin anew if the restored cluster has segments of another size than was thought."""
        if self.order and segment_bytes != self.order.segment_bytes:
            self.stop()
            self.start(replace(self.order, segment_bytes=segment_bytes))

    def start(self, order: Order) -> None:
        """Start fetching."""
        self.order = order = replace(order, owner=self.owner)
        if self._process is None or self._process.poll() is not None:
            self._launch()
        with contextlib.suppress(BrokenPipeError):
            self._say(order.to_json())

    def _launch(self) -> None:
        self._over = False
        self._lay_out()
        ends = [os.open(self.spool / name, os.O_RDWR | os.O_NONBLOCK) for name in FIFOS]
        ends.append(os.open(self.spool, os.O_DIRECTORY | os.O_NOFOLLOW))
        # setpriv: the kernel ends it even when this process is SIGKILLed and can end nothing
        # itself.
        guard = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
        try:
            # It holds the FIFOs' ends from its first moment on, and nobody else does: recovery
            # never finds nobody there before it died, and notices at once when it has.
            self._process = subprocess.Popen(
                [
                    *guard,
                    *self.before,
                    sys.executable,
                    "-m",
                    "pgdrill.recovery.wal_prefetch",
                    *map(str, ends),
                ],
                env=self._environment,
                pass_fds=ends,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
                cwd="/",
            )
        finally:
            for end in ends:
                os.close(end)
        mark_process(self.pid_file, self._process.pid)
        self._readers = [
            threading.Thread(target=read, args=(stream, use), daemon=True)
            for stream, use in (
                (self._process.stdout, self._told),
                (self._process.stderr, self._logged),
            )
        ]
        for reader in self._readers:
            reader.start()

    def _lay_out(self) -> None:
        """Make new folders, and all that the restored server gets to see."""
        for folder in (self.spool, self.incoming):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True)
        for name in FIFOS:
            os.mkfifo(self.spool / name, 0o600)
        if self.owner is not None:
            for place in (self.spool, *(self.spool / name for name in FIFOS)):
                os.chown(place, self.owner, -1)
        self.script.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.script.write_bytes(SCRIPT.read_bytes())
        self.script.chmod(0o644)

    @property
    def restore_command(self) -> str:
        """The command that takes WAL from the spool, or waits for it; it knows no tool."""
        return (
            f'f="%f" p="%p" spool={shell_word(str(self.spool))}; . {shell_word(str(self.script))}'
        )

    def show(self, progress: Callable[[str, int, int], None], expected_segments: int) -> None:
        """Report how far the fetching is.

        Where segments are fetched on demand it is only a sign of life.
        """
        if self.order is None or not self.order.ahead_segments:
            progress("replay", 0, 0)
            return
        total = max(expected_segments, self.fetched.segments) * self.order.segment_bytes
        progress("replay", self.fetched.segments * self.order.segment_bytes, total)

    def cause(self, error: PgdrillError, log: str) -> PgdrillError:
        """Return why recovery ended with that error, as far as its WAL had a part in it.

        ``log``: the server's.
        """
        if (
            self._barred
            and isinstance(error, BackupFault)
            and f'restored log file "{self._barred[1]}"' in log
        ):
            return self.fault or self._barred[2]
        return self.fault or error

    def finish(self) -> WalFetched | None:
        """Fetch nothing more, and wait for the last comparisons.

        Raises what was found wrong, also what recovery overlooked.
        """
        started = time.monotonic()
        if self._process is not None:
            try:
                with contextlib.suppress(BrokenPipeError):
                    self._say("enough")
                self._over = self._process.wait(self.settle_seconds) == 0
            except subprocess.TimeoutExpired:
                raise TimedOut(
                    "stalled",
                    "comparing fetched WAL with the tool's",
                    found=f"no end within {self.settle_seconds:.0f} s",
                    expected="the tool's own segments",
                    hint="see what the tool waits for (store, network)",
                ) from None
        fetched = self.stop()
        if self.fault:
            raise self.fault
        if fetched is None or self.order is None or not self.order.ahead_segments:
            return None
        return fetched.model_copy(update={"settle_seconds": time.monotonic() - started})

    def stop(self) -> WalFetched | None:
        """End the process at once, with every tool it runs.

        Returns what it told until then, or None where it never ran.

        A process that had ended by itself is a fault, if it told of no other: recovery got no more
        WAL from then on.
        """
        process = self._process
        if process is None:
            return None
        ended = process.poll() is not None
        died, self._over = ended and not self._over, True
        if not ended:
            end_group(process.pid)
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        process.wait()
        for reader in self._readers:
            reader.join()
        if died:
            self.fault = self.fault or _died(process.returncode)
        self.pid_file.unlink(missing_ok=True)
        for folder in (self.spool, self.incoming):
            shutil.rmtree(folder, ignore_errors=True)
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
        if barred := said.get("barred"):
            lsn, segment = barred.pop("lsn"), barred.pop("segment")
            if self._barred is None or lsn < self._barred[0]:
                self._barred = lsn, segment, _as_error(barred)

    def _logged(self, line: str) -> None:
        logger.warning("wal ahead: %s", mask(line.rstrip("\n"), self._environment))


def _died(code: int) -> CouldNotVerify:
    """Return the error for a prefetcher that ended by itself.

    Recovery is never given to anybody else: without this process nobody has the keys.
    """
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return CouldNotVerify(
        "wal-fetch-ended",
        "the process that fetches WAL",
        found=f"ended by {how}",
        expected="an end when the drill says so",
        hint=(
            "see the task's log above this line, and the kernel's (dmesg) for lack of memory; then"
            " drill again"
        ),
    )


def _as_error(fault: dict[str, Any]) -> PgdrillError:
    """Return the prefetcher's fault as an error of the same class."""
    kind = getattr(errors, fault.pop("kind"), CouldNotVerify)
    reason, thing = fault.pop("reason"), fault.pop("thing")
    made: PgdrillError = kind(reason, thing, **fault)
    return made


def read(stream: IO[str], use: Callable[[str], None]) -> None:
    """Hand on every line until the process has ended."""
    with stream:
        for line in stream:
            use(line)
