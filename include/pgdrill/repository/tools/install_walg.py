"""An installer of the pinned official wal-g release.

Run it as ``python -m pgdrill.repository.tools.install_walg --into .local/bin``.

What arrives is compared with the ``.sha256`` asset that the release keeps beside each archive. That
proves an intact download from the release page and no more: the digest is not pinned here, the page
is trusted as its own source.

Exit code 0: wal-g is there, or this machine cannot have it and one line says so (the demo and the
tests then use barman-cloud; ``--required`` makes that 1, for images). Exit code 1: what the host
gave is not wal-g's release. Nothing is called ``wal-g`` in the target folder before it is whole and
verified.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import http.client
import os
import platform
import queue
import re
import shutil
import sys
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

VERSION = "v3.0.8"
RELEASE_URL = f"https://github.com/wal-g/wal-g/releases/download/{VERSION}"
RELEASE_URL_VARIABLE = "PGDRILL_WALG_RELEASE_URL"
PROGRAM = "wal-g"
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "aarch64", "arm64": "aarch64"}
TIMEOUT_SECONDS = 10.0
CHUNK_BYTES = 1 << 20
SMALL_BYTES = 4096
# the host is there, the release is not: a wrong address, not a closed network
MISSING_CODES = (404, 410)


class Unavailable(Exception):
    """This machine cannot have the release: host not reachable, or no build for it."""


class BadRelease(Exception):
    """The host gave something that is not the release."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, print one line, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pgdrill.repository.tools.install_walg", description="Fetch wal-g."
    )
    parser.add_argument(
        "--into", type=Path, default=Path(".local/bin"), help="folder for the program"
    )
    parser.add_argument("--required", action="store_true", help="fail if it cannot be fetched")
    options = parser.parse_args(arguments)
    try:
        print(install(options.into))
    except BadRelease as error:
        print(f"wal-g was NOT installed: {error}", file=sys.stderr)
        return 1
    except Unavailable as error:
        print(
            f"wal-g could not be fetched ({error}); demo and tests go on with barman-cloud. To try"
            " again: `.venv/bin/python -m pgdrill.repository.tools.install_walg --into"
            f" {options.into}`; or put the program wal-g there by hand"
        )
        return 1 if options.required else 0
    return 0


def install(into: Path, *, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Put wal-g into the folder ``into`` unless it is there or on PATH.

    Returns what was done, as a sentence.
    """
    target = into / PROGRAM
    found = shutil.which(PROGRAM, path=str(into)) or shutil.which(PROGRAM)
    if found:
        return f"wal-g is already installed: {found}"
    url = f"{release_url()}/{asset_name(platform.system(), platform.machine())}"
    expected = expected_digest(url, timeout_seconds)
    into.mkdir(parents=True, exist_ok=True)
    # Inside the target's folder, hence on its file system, so that the move at the end is atomic.
    with tempfile.TemporaryDirectory(prefix=".wal-g-", dir=into) as folder:
        archive = Path(folder) / "release.tar.gz"
        digest = download(url, archive, timeout_seconds)
        if digest != expected:
            raise BadRelease(
                f"{url} has sha256 {digest}, its .sha256 asset says {expected}; try again later"
            )
        program = Path(folder) / PROGRAM
        unpack(archive, program)
        program.chmod(0o755)
        program.replace(target)
    return f"wal-g {VERSION} installed: {target}"


def release_url() -> str:
    """Return where the release's assets are, without a slash at the end."""
    url = os.environ.get(RELEASE_URL_VARIABLE) or RELEASE_URL
    if not url.startswith(("https://", "http://")):  # urllib would open file:// and ftp:// too
        raise BadRelease(f"{RELEASE_URL_VARIABLE} must start with https:// or http://, found {url}")
    return url.rstrip("/")


def asset_name(system: str, machine: str) -> str:
    """Return the archive's name for a machine as :mod:`platform` describes it."""
    architecture = ARCHITECTURES.get(machine.lower())
    if system != "Linux" or architecture is None:
        raise Unavailable(f"no official build of {VERSION} for {system} on {machine}")
    return f"wal-g-pg-22.04-{architecture}.tar.gz"


def expected_digest(url: str, timeout_seconds: float) -> str:
    """Fetch the digest in the ``.sha256`` asset.

    It is asked for first, since it is small and tells whether the host is there.
    """
    text = fetch_text(f"{url}.sha256", timeout_seconds)
    digest = re.match(r"\s*([0-9a-fA-F]{64})\b", text)
    if digest is None:
        raise BadRelease(f"{url}.sha256 holds no sha256 digest")
    return digest[1].lower()


def fetch_text(url: str, timeout_seconds: float) -> str:
    """Fetch a small text file; give up for good after ``timeout_seconds``.

    A socket's own timeout starts anew with each address and each byte, and does not cover DNS;
    hence the thread.
    """
    outcome: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()

    def fetch() -> None:
        try:
            with open_url(url, timeout_seconds) as response:
                outcome.put(response.read(SMALL_BYTES).decode(errors="replace"))
        except Exception as error:  # whatever it is, the caller gets it
            outcome.put(error)

    threading.Thread(target=fetch, daemon=True).start()
    try:
        result = outcome.get(timeout=timeout_seconds)
    except queue.Empty:
        raise Unavailable(f"no answer from {url} in {timeout_seconds:.0f} s") from None
    if isinstance(result, Exception):
        raise explained(result, url) from result
    return result


def download(url: str, into: Path, timeout_seconds: float) -> str:
    """Stream ``url`` into the file ``into``; return the sha256 of what arrived."""
    digest = hashlib.sha256()
    received = 0
    try:
        with open_url(url, timeout_seconds) as response, into.open("wb") as file:
            announced = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(CHUNK_BYTES):
                digest.update(chunk)
                received += file.write(chunk)
    except (OSError, http.client.HTTPException) as error:
        raise explained(error, url) from error
    if received < announced:
        raise Unavailable(f"{url} ended after {received} of {announced} bytes")
    return digest.hexdigest()


def open_url(url: str, timeout_seconds: float) -> http.client.HTTPResponse:
    """Return an answer with status 200; redirects are followed."""
    response: http.client.HTTPResponse = urllib.request.urlopen(url, timeout=timeout_seconds)  # noqa: S310 - http(s) only, see release_url
    return response


def explained(error: Exception, url: str) -> Unavailable | BadRelease:
    """Return what a failed request means: an asset that is not there, or a host out of reach."""
    if isinstance(error, urllib.error.HTTPError):
        if error.code in MISSING_CODES:
            return BadRelease(
                f"{url} does not exist (HTTP {error.code}); check {RELEASE_URL_VARIABLE}"
            )
        return Unavailable(f"{url} answered HTTP {error.code}")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return Unavailable(f"{url}: {reason or type(error).__name__}")


def unpack(archive: Path, program: Path) -> None:
    """Write the archive's one file to ``program``; the names inside decide nothing about where."""
    try:
        with tarfile.open(archive, "r:gz") as tar, program.open("wb") as file:
            shutil.copyfileobj(only_file(tar), file)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadRelease(f"the archive cannot be read: {error}") from error


def only_file(tar: tarfile.TarFile) -> IO[bytes]:
    """Return the content of the archive's only member.

    It has to be a regular file with a plain name.
    """
    members = tar.getmembers()
    if len(members) != 1:
        raise BadRelease(f"the archive holds {len(members)} members instead of the program alone")
    member = members[0]
    path = PurePosixPath(member.name)
    content = tar.extractfile(member) if member.isreg() else None  # never follows a link
    if content is None or path.is_absolute() or ".." in path.parts:
        raise BadRelease(f"the archive's member is not a plain file: {member.name}")
    return content


if __name__ == "__main__":
    sys.exit(main())
