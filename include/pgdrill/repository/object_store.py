"""Objects in S3 or a folder, by one small API (obstore).

It reads the repository without its tool, and it is the report store.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, S3Store

from pgdrill.documents import DOCUMENT_BYTES, Content
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify, NoKeys, Unreachable

REQUEST_TIMEOUT = "20s"
READERS = 8
PAGE = 1000  # objects in one answer of a listing
# Whole words: a port may well hold the digits 403.
REFUSED = re.compile(r"\b40[13]\b(?!:)|Forbidden|AccessDenied|Permission|Unauthorized")
# the error for a key in a listing that is .., empty, or has a control character in it
STRANGE_KEY = re.compile(r"invalid path|InvalidPath")
NO_BUCKET = re.compile("NoSuchBucket")
ANSWER = re.compile(
    r"(<\?xml[^>]*>\s*)?<Error>.*?<Code>(?P<code>[^<]*)</Code>"
    r"(\s*<Message>(?P<message>[^<]*)(</Message>)?)?"
)
# the addresses at which a machine's role is asked for
NO_KEYS = re.compile(r"\b169\.254\.1(69\.254|70\.2)\b|instance metadata", re.IGNORECASE)
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
KEYS_HINT = (
    "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where this job runs, or give the machine a"
    " role; in Airflow the Connection that repository.conn_id names brings them (it counts only"
    " there)"
)
RETRIES: Any = {
    "max_retries": 2,
    "backoff": {
        "base": 2,
        "init_backoff": timedelta(seconds=0.1),
        "max_backoff": timedelta(seconds=1),
    },
    "retry_timeout": timedelta(seconds=10),
}
PATIENT_TIMEOUT = "300s"  # for each part of a large object that is sent
SILENCE_TIMEOUT = "60s"  # without a byte of an object that is fetched
SLOWEST_BYTES_PER_SECOND = 100_000  # a slower fetch is given up
PATIENT_RETRIES: Any = {
    "max_retries": 8,
    "backoff": {
        "base": 2,
        "init_backoff": timedelta(seconds=0.2),
        "max_backoff": timedelta(seconds=15),
    },
    "retry_timeout": timedelta(seconds=60),
}
BRIEF_TIMEOUT = "1s"  # for a store that has failed a moment ago
QUICK_TIMEOUT = "5s"  # for a look that must not take long
BRIEF_RETRIES: Any = {**RETRIES, "max_retries": 0}


@dataclass(frozen=True, slots=True)
class Storage:
    """A place for objects. Keys are relative to it, with slashes.

    ``anew`` makes its store with another timeout and retries.
    """

    url: str
    store: Any
    anew: Callable[..., Any] = field(repr=False, compare=False)

    @classmethod
    def open(
        cls,
        url: str,
        environment: Mapping[str, str],
        *,
        endpoint_url: str = "",
        region: str = "us-east-1",
    ) -> Storage:
        """Open the place at ``s3://bucket/prefix`` or ``file:///folder``.

        Without keys in ``environment`` the machine's role is used.
        """
        parts = urlsplit(url)
        if parts.scheme == "file":
            with _Explained(url):
                folder = LocalStore(Path(parts.path), mkdir=True)
            return cls(url, folder, lambda *_, **__: folder)
        whole_pair(environment)
        names = {
            "AWS_ACCESS_KEY_ID": "access_key_id",
            "AWS_SECRET_ACCESS_KEY": "secret_access_key",
            "AWS_SESSION_TOKEN": "session_token",
        }
        options: dict[str, Any] = {
            words: environment[name] for name, words in names.items() if environment.get(name)
        }
        if endpoint_url:
            options |= {"endpoint": endpoint_url, "virtual_hosted_style_request": False}

        def anew(timeout: str, retries: Any, **more: str) -> S3Store:
            client: Any = {
                "allow_http": endpoint_url.startswith("http://"),
                "connect_timeout": "5s",
                "timeout": timeout,
                **more,
            }
            return S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                region=region,
                client_options=client,
                retry_config=retries,
                **options,
            )

        return cls(url, anew(REQUEST_TIMEOUT, RETRIES), anew)

    @property
    def patient(self) -> Storage:
        """This place for sending large objects.

        A part may take minutes, and one that fails is sent again for longer.
        """
        return Storage(self.url, self.anew(PATIENT_TIMEOUT, PATIENT_RETRIES), self.anew)

    def fetching(self, size: int) -> Storage:
        """Return this place for fetching an object of so many bytes in one stream.

        The fetch may take as long as it takes, if something arrives all the time.
        """
        limit = f"{300 + size // SLOWEST_BYTES_PER_SECOND}s"
        return Storage(self.url, self.anew(limit, RETRIES, read_timeout=SILENCE_TIMEOUT), self.anew)

    @property
    def brief(self) -> Storage:
        """This place for what may well fail once more: one try, of a second."""
        return Storage(self.url, self.anew(BRIEF_TIMEOUT, BRIEF_RETRIES), self.anew)

    @property
    def quick(self) -> Storage:
        """This place for a look that must not take long: one try, of a few seconds."""
        return Storage(self.url, self.anew(QUICK_TIMEOUT, BRIEF_RETRIES), self.anew)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """List every object below ``prefix``: key -> bytes."""
        with self.explained(prefix):
            batches = obstore.list(self.store, prefix=prefix or None)
            return {meta["path"]: meta["size"] for batch in batches for meta in batch}

    def sizes_after(
        self, prefix: str, key: str, *, most: int | None = None
    ) -> tuple[dict[str, int], bool]:
        """List objects below ``prefix`` whose key comes after ``key``, in the order of keys.

        With ``most`` no more than a page beyond so many are read. The second value is whether the
        end was reached.
        """
        found: dict[str, int] = {}
        with self.explained(prefix):
            batches = obstore.list(self.store, prefix=prefix.strip("/") or None, offset=key or None)
            ordered = not self.url.startswith("file:")
            for batch in batches:
                # not every store keeps to where it was asked to begin
                found |= {meta["path"]: meta["size"] for meta in batch if meta["path"] > key}
                if ordered and most is not None and len(found) >= most:
                    return found, False
        if most is None or ordered or len(found) <= most:
            return found, True
        return {path: found[path] for path in sorted(found)[:most]}, False

    def find(self, key: str, names: re.Pattern[str]) -> str | None:
        """Return the first object of the listing that is of that key, or None.

        More may follow there: ``names`` matches the last part of a key, and its first group is
        the last part of ``key``. The listing is read from there on in the order of keys, and no
        further than a page of it: a folder may hold millions.
        """
        folder, _, wanted = key.rpartition("/")
        seen = 0
        with self.explained(key):
            for batch in obstore.list(self.store, prefix=folder or None, offset=key[:-1]):
                for meta in batch:
                    match = names.fullmatch(meta["path"].rpartition("/")[2])
                    if match and match[1] == wanted:
                        return str(meta["path"])
                seen += len(batch)
                if seen >= PAGE and not self.url.startswith("file:"):
                    break
        return None

    def written(self, prefix: str = "") -> dict[str, datetime]:
        """List when every object below ``prefix`` was last written, by the store's own clock.

        A copy has its copy's time.
        """
        with self.explained(prefix):
            batches = obstore.list(self.store, prefix=prefix or None)
            return {meta["path"]: meta["last_modified"] for batch in batches for meta in batch}

    def read(self, key: str, limit_bytes: int = DOCUMENT_BYTES) -> bytes | None:
        """Read an object's content, or return None if there is no such object.

        An object beyond the limit is no document: it is not read.
        """
        chunks = self.chunks(key, limit_bytes=limit_bytes)
        return None if chunks is None else b"".join(chunks)

    def read_versioned(
        self, key: str, limit_bytes: int = DOCUMENT_BYTES
    ) -> tuple[bytes, str | None] | None:
        """Read an object's content with the etag of that very version, for :meth:`replace`.

        None: there is no such object.
        """
        with self.explained(key):
            try:
                result = obstore.get(self.store, key)
            except (NotFoundError, FileNotFoundError):
                return None
        self._bounded(key, result.meta["size"], limit_bytes)
        chunks = self._arriving(key, result.stream(min_chunk_size=2**20), limit_bytes)
        return b"".join(chunks), result.meta["e_tag"]

    def chunks(
        self, key: str, chunk_bytes: int = 2**20, limit_bytes: int | None = None
    ) -> Iterator[bytes] | None:
        """Return an object's content as it arrives, or None if there is no such object.

        Errors of the way come while iterating.
        """
        with self.explained(key):
            try:
                result = obstore.get(self.store, key)
            except (NotFoundError, FileNotFoundError):
                return None
        self._bounded(key, result.meta["size"], limit_bytes)
        return self._arriving(key, result.stream(min_chunk_size=chunk_bytes), limit_bytes)

    def _arriving(
        self, key: str, stream: Iterable[Any], limit_bytes: int | None
    ) -> Iterator[bytes]:
        arrived = 0
        with self.explained(key):
            for chunk in stream:
                arrived += len(chunk)
                self._bounded(key, arrived, limit_bytes)  # whatever size the store told
                yield bytes(chunk)

    def _bounded(self, key: str, size_bytes: int, limit_bytes: int | None) -> None:
        if limit_bytes is not None and size_bytes > limit_bytes:
            raise BackupFault(
                "too-large",
                f"{self.url}/{key}",
                found=f"{size_bytes} bytes or more",
                expected=f"a document of at most {limit_bytes} bytes",
                hint=(
                    "see who writes into the bucket; restore the object from the bucket's versions"
                ),
            )

    def write(self, key: str, content: bytes) -> str:
        """Put an object and return where it is."""
        with self.explained(key):
            obstore.put(self.store, key, content)
        return f"{self.url}/{key}"

    def replace(self, key: str, content: bytes, *, etag: str | None) -> str | None:
        """Put an object only over the version of that etag, and return the new etag.

        With ``etag`` None it is put only where there is none.

        None: the store refused, for there is another (412). Not every store keeps to it: see
        :func:`pgdrill.repository.leases.board.probe`.
        """
        with self.explained(key):
            try:
                return str(
                    obstore.put(
                        self.store, key, content, mode={"e_tag": etag} if etag else "create"
                    )["e_tag"]
                )
            except (AlreadyExistsError, PreconditionError, NotFoundError):
                return None

    def etag(self, key: str) -> str | None:
        """Return the version of an object, or None where there is none."""
        with self.explained(key):
            try:
                return obstore.head(self.store, key)["e_tag"]
            except (NotFoundError, FileNotFoundError):
                return None

    def delete(self, *keys: str) -> None:
        """Delete objects; one that is gone already is fine."""
        with self.explained(keys[0] if keys else ""):
            for key in keys:
                with contextlib.suppress(NotFoundError, FileNotFoundError):
                    obstore.delete(self.store, key)

    def read_all(self, keys: Iterable[str], limit_bytes: int) -> Iterator[tuple[str, Content]]:
        """Yield several small objects of a listing in their order.

        Some are read at a time: a store far away answers each after tens of milliseconds.

        An object that is too large stands as its error, for the others are no worse for it. Parse
        each as it comes: no more than a few are in memory together, however many somebody has put
        there.
        """
        ahead: deque[tuple[str, Future[Content]]] = deque()
        with ThreadPoolExecutor(READERS, "read") as pool:
            for key in keys:
                ahead.append((key, pool.submit(self._read_or_error, key, limit_bytes)))
                if len(ahead) > READERS:
                    yield _arrived(ahead)
            while ahead:
                yield _arrived(ahead)

    def read_listed(self, key: str, limit_bytes: int = DOCUMENT_BYTES) -> bytes | None:
        """Read an object of a listing. None: it was deleted since.

        Raises :class:`Unreachable` where the store still lists it, and does not give it.
        """
        content = self.read(key, limit_bytes)
        if content is None and key in self.sizes(key.rpartition("/")[0]):
            raise Unreachable(
                "storage-inconsistent",
                f"{self.url}/{key}",
                found="no such object, and the listing has it",
                expected="the object",
                hint=(
                    "see what answers for the store (proxies, replicas, policies for single keys),"
                    " then try again"
                ),
            )
        return content

    def _read_or_error(self, key: str, limit_bytes: int) -> Content:
        try:
            return self.read_listed(key, limit_bytes)
        except BackupFault as error:
            return error

    def latency_seconds(self, key: str, tries: int = 3) -> float:
        """Return how long the store takes to answer whether there is such an object.

        It is the quickest of a few tries.
        """
        found = []
        with self.explained(key):
            for _ in range(tries):
                started = time.perf_counter()
                with contextlib.suppress(NotFoundError, FileNotFoundError):
                    obstore.head(self.store, key)
                found.append(time.perf_counter() - started)
        return min(found)

    def explained(self, key: str) -> _Explained:
        return _Explained(f"{self.url}/{key}")


def whole_pair(environment: Mapping[str, str]) -> None:
    """Raise ``half-a-key`` where only one key of the pair is set, or one is empty.

    Half a pair of keys opens nothing, nor does an empty one, and libraries then look elsewhere
    without a word.
    """
    given = [name for name in KEYS if environment.get(name)]
    if empty := [
        name for name in KEYS if name in environment and not (environment[name] or "").strip()
    ]:
        raise ConfigError(
            "half-a-key",
            "AWS keys",
            found=f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} set, and empty",
            expected="both with their values, or neither set where the machine has a role",
            hint=f"{KEYS_HINT}; without keys: `unset {' '.join(KEYS)}`",
        )
    if len(given) == 1:
        lacking = next(name for name in KEYS if name not in given)
        raise ConfigError(
            "half-a-key",
            "AWS keys",
            found=f"{given[0]} is set and {lacking} is not",
            expected="both, or neither where the machine has a role",
            hint=KEYS_HINT,
        )


def _in_words(text: str) -> str:
    """Return an error of the store's library on one line.

    Of the document that an S3 store answers with, it keeps code and message.
    """
    text = " ".join(text.partition("Debug source:")[0].split())
    said = ANSWER.search(text)
    words = (
        f"{text[: said.start()]}{said['code']}"
        f"{': ' if said['message'] else ''}{said['message'] or ''}"
        if said
        else text
    )
    return words[:300]


def _arrived(ahead: deque[tuple[str, Future[Content]]]) -> tuple[str, Content]:
    key, answer = ahead.popleft()
    return key, answer.result()


class _Explained:
    """A context that turns storage errors into errors with a hint.

    Nothing of the request's headers gets through.
    """

    def __init__(self, thing: str) -> None:
        self.thing = thing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, BaseError | OSError):
            return
        text = _in_words(str(error))
        if NO_KEYS.search(text):
            raise NoKeys(
                "no-keys",
                self.thing,
                found=(
                    "no AWS keys, and no machine's role to do without them (nobody answers at the"
                    " metadata service's address)"
                ),
                expected="keys for the bucket",
                hint=KEYS_HINT,
            ) from None
        if NO_BUCKET.search(text):
            raise CouldNotVerify(
                "no-bucket",
                self.thing,
                found=text,
                expected="a bucket that exists",
                hint=(
                    "correct repository.url (and endpoint_url, region), or make the bucket: `aws s3"
                    " mb s3://NAME`"
                ),
            ) from None
        if STRANGE_KEY.search(text):
            raise CouldNotVerify(
                "unsafe-name",
                self.thing,
                found=text,
                expected="objects with names that a tool or pgdrill could have given",
                hint="see who writes into the bucket, and remove that object",
            ) from None
        refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or REFUSED.search(
            text
        )
        if refused:
            raise CouldNotVerify(
                "storage-refused",
                self.thing,
                found=text,
                expected="permission to list and read",
                hint=(
                    "check the keys (Airflow connection or AWS_… variables) and the bucket's policy"
                ),
            ) from None
        raise Unreachable(
            "storage-unreachable",
            self.thing,
            found=text,
            expected="an answer from the store",
            hint="check repository.url, endpoint_url, the bucket's existence and the network",
        ) from None
