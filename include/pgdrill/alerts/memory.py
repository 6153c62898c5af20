"""Where alerts are remembered: in the report store, with a copy on this host.

Two watchers change it one after the other: by the conditions of a put where the store keeps to
them, else by a lock of this host (of the folder, where the store is one). While the store does not
answer, the copy goes on alone, and is merged afterwards: an alert that the store is gone has to be
told, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import Field

from pgdrill.alerts.merging import merged
from pgdrill.alerts.model import AlertState, Kept
from pgdrill.documents import read_model
from pgdrill.errors import BackupFault, Busy, Momentary, PgdrillError
from pgdrill.host.place import make_state
from pgdrill.reports.store import write_file
from pgdrill.repository.leases.board import probe
from pgdrill.repository.object_store import Storage

logger = logging.getLogger(__name__)

FOLDER = "alerts"
KEY = f"{FOLDER}/state.json"
PROBE = f"{FOLDER}/probe.json"
LIMIT_BYTES = 8 * 2**20
TRIES = 20
AGAIN_SECONDS = 30.0  # a store that did not answer is asked again after so long
LOCK_SECONDS = 60.0
POLL_SECONDS = 0.05  # flock has no timeout of its own

Result = TypeVar("Result")
Step = Callable[[AlertState], tuple[AlertState, Result]]


class LocalCopy(Kept):
    """The copy on this host. ``ahead``: it holds what the store does not have yet."""

    state: AlertState = Field(default_factory=AlertState)
    ahead: bool = False


class Memory:
    """What is remembered of one cluster's alerts.

    ``trouble`` says what was wrong with what was kept, ``offline`` why the store is not used now;
    both empty where all is well.
    """

    def __init__(
        self,
        reports: Callable[[], Storage],
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.open_store = reports
        self.folder = folder
        self.clock = clock
        self.trouble = ""
        self.offline = ""
        self.written_at = -1e9
        self._again_at = -1e9
        self._store: Storage | None = None
        self._conditional: bool | None = None
        self._etag: str | None = None
        self._state: AlertState | None = None
        self._read_at = -1e9
        self._ahead = False
        self._thread = threading.RLock()

    def cached(self, seconds: float) -> AlertState | None:
        """Return what is known, if it was read or written no longer ago than that."""
        return self._state if self.clock() - self._read_at < seconds else None

    def note(self, known: AlertState, state: AlertState) -> None:
        """Know what need not be written yet, unless what it was made from has changed since."""
        with self._thread:
            if self._state is known:
                self._state = state

    def read(self) -> AlertState:
        """Return what is remembered now, and change nothing."""
        with self._alone():
            return self._load()

    def change(self, step: Step[Result]) -> Result:
        """Change what is remembered by a step that may be taken several times, and keep it.

        Raises :class:`Momentary` where others write all the time.
        """
        with self._alone():
            for attempt in range(TRIES):
                time.sleep(attempt * 0.05 * random.random())  # noqa: S311 - spreads tries
                known = self._state if self._conditional and not attempt else None
                state = self._load() if known is None else known
                after, result = step(state)
                if after == state and not self._ahead and not self.trouble:
                    return result
                if self._keep(after):
                    return result
        raise Momentary(
            "alert-state-contended",
            f"{KEY} in the report store",
            found=f"another version at each of {TRIES} tries",
            expected="a moment in which nobody else writes it",
            hint="see how many watchers run for this cluster; one or two are meant",
        )

    # --- the store ---

    def _load(self) -> AlertState:
        copy = self._local() or LocalCopy(state=self._state or AlertState(), ahead=self._ahead)
        try:
            state = self._from_store(copy)
        except PgdrillError as error:
            self._gone(error)
            state, self._etag = copy.state, None
        else:
            self.offline = ""
            if copy.ahead:
                state = merged(state, copy.state)
        self._ahead = copy.ahead
        self._state, self._read_at = state, self.clock()
        return state

    def _from_store(self, copy: LocalCopy) -> AlertState:
        store = self._reached()
        try:
            found = store.read_versioned(KEY, LIMIT_BYTES)
        except BackupFault as error:
            return self._unreadable(store, error.problem.found, b"", copy)
        if found is None:
            self._etag = None
            return AlertState()
        content, self._etag = found
        try:
            return read_model(AlertState, content)
        except ValueError as error:
            return self._unreadable(store, str(error), content, copy)

    def _unreadable(self, store: Storage, why: str, content: bytes, copy: LocalCopy) -> AlertState:
        """Go on with this host's copy. What cannot be read is kept beside, for a look."""
        aside = f"{FOLDER}/unreadable-{hashlib.sha256(content).hexdigest()[:12]}.json"
        if content:
            store.write(aside, content)
        else:
            self._etag = store.etag(KEY)
        self.trouble = f"{store.url}/{KEY} cannot be read ({why[:200]})"
        logger.warning("%s; going on with what this host remembers", self.trouble)
        return copy.state

    def _keep(self, state: AlertState) -> bool:
        """Write the state; return False where somebody else did in between."""
        content = state.model_dump_json(indent=1).encode()
        ahead = bool(self.offline)
        if not ahead:
            try:
                if not self._put(content):
                    return False
            except PgdrillError as error:
                self._gone(error)
                ahead = True
        self._state, self._ahead = state, ahead
        self._read_at = self.written_at = self.clock()
        self._keep_local(LocalCopy(state=state, ahead=ahead))
        return True

    def _put(self, content: bytes) -> bool:
        store = self._reached()
        if not self._conditional:
            store.write(KEY, content)
            return True
        etag = store.replace(KEY, content, etag=self._etag)
        if etag is None:
            # The answer to a first try may have been lost: then what is there is this very state.
            found = store.read_versioned(KEY, LIMIT_BYTES)
            if found is None or found[0] != content:
                return False
            etag = found[1]
        self._etag = etag
        return True

    def _reached(self) -> Storage:
        """The store, unless it failed a moment ago."""
        if self.offline and self.clock() < self._again_at:
            raise Momentary(
                "storage-unreachable",
                "report store",
                found=self.offline,
                expected="an answer",
                hint="it is asked again soon",
            )
        if self._store is None:
            self._store = self.open_store().quick
        if self._conditional is None:
            self._conditional = probe(self._store, PROBE)
        return self._store

    def _gone(self, error: PgdrillError) -> None:
        if not self.offline:
            logger.warning("alerts are remembered on this host alone for now: %s", error)
        if self.clock() >= self._again_at:
            self._again_at = self.clock() + AGAIN_SECONDS
        self.offline = error.problem.found

    # --- this host ---

    @property
    def _file(self) -> Path:
        return self.folder / FOLDER / "state.json"

    def _local(self) -> LocalCopy | None:
        try:
            return read_model(LocalCopy, self._file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read, and is written anew: %s", self._file, error)
            return None

    def _keep_local(self, copy: LocalCopy) -> None:
        try:
            write_file(self._file, copy.model_dump_json(indent=1))
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._file, error.strerror)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out: those of this host, and those that share a store's folder."""
        with self._thread, contextlib.ExitStack() as held:
            for folder in self._lock_folders():
                held.enter_context(_locked(folder / "lock"))
            yield

    def _lock_folders(self) -> list[Path]:
        make_state(self.folder)
        folders = [self.folder / FOLDER]
        with contextlib.suppress(PgdrillError):  # told when it is read
            url = urlsplit((self._store or self.open_store()).url)
            if url.scheme == "file" and Path(url.path).is_dir():
                folders.append(Path(url.path) / FOLDER)
        return folders


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_SECONDS
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy(
                        str(path),
                        found=f"locked for more than {LOCK_SECONDS:g} s",
                        expected="a lock that is given back within seconds",
                        hint="see which pgdrill process hangs on this host, and end it",
                    ) from None
                time.sleep(POLL_SECONDS)
        yield
