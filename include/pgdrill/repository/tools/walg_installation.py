"""wal-g as it is installed on this host: what it was built with, and its own settings."""

from __future__ import annotations

import json
import mmap
import os
import pwd
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pgdrill.host.process import Command
from pgdrill.repository.tools.installation import Run, ToolFinding
from pgdrill.repository.tools.walg_failures import NO_BROTLI_HINT, NO_LIBSODIUM_HINT

# as its help lists them
COMMANDS = ("backup-push", "backup-fetch", "backup-mark", "wal-push", "wal-fetch", "delete", "st")
# It reads them from its file, too. Those that name a place, or what backups consist of, are
# pgdrill's to set.
PLACES = (
    "WALG_S3_PREFIX",
    "WALG_FILE_PREFIX",
    "WALG_GS_PREFIX",
    "WALG_AZ_PREFIX",
    "WALG_SSH_PREFIX",
    "WALG_SWIFT_PREFIX",
)
SODIUM = ("WALG_LIBSODIUM_KEY", "WALG_LIBSODIUM_KEY_PATH")
WITHOUT_SODIUM = b"not compiled with libsodium"  # an error's words, in such a program alone
BROTLI = b"wal-g/internal/compression/brotli."  # its functions, in a program that has them
KEY_FILES = ("WALG_PGP_KEY_PATH", "WALG_LIBSODIUM_KEY_PATH", "WALG_ENVELOPE_PGP_KEY_PATH")


def lacking(program: str, run: Run) -> list[str]:
    """Return the commands that pgdrill uses and this wal-g's help does not list."""
    done = run(Command((program, "--help")))
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.split()}
    return [f"`{name}`" for name in COMMANDS if name not in listed]


def own_settings(wrong: list[ToolFinding], url: str) -> dict[str, str]:
    """Return wal-g's variables, from its file and the environment.

    ``wrong`` gets those that contradict the configuration, and keys that cannot be read.
    """
    settings: dict[str, str] = {}
    for where, values in (
        ("~/.walg.json", _file(wrong)),
        ("environment", {k: v for k, v in os.environ.items() if k.startswith("WALG_")}),
    ):
        settings |= values
        for name in PLACES:
            wrong += _elsewhere(url, where, name, values.get(name, ""))
    for name in KEY_FILES:
        if (path := settings.get(name)) and not os.access(path, os.R_OK):
            wrong.append(
                ToolFinding(
                    "red",
                    name,
                    f"{path} cannot be read",
                    "the key's file",
                    f"put the key there, readable for this user (`chmod 0400 {path}`), or correct"
                    f" {name}",
                )
            )
    return settings


def built_without(program: str, settings: Mapping[str, str], compression: str) -> list[ToolFinding]:
    """Return what the settings want and this program was built without."""
    found = []
    if any(settings.get(name) for name in SODIUM) and program_holds(program, WITHOUT_SODIUM):
        found.append(
            ToolFinding(
                "red",
                "WALG_LIBSODIUM_KEY",
                "this wal-g was not compiled with libsodium",
                "one that was",
                NO_LIBSODIUM_HINT,
            )
        )
    if compression == "brotli" and not program_holds(program, BROTLI):
        found.append(
            ToolFinding(
                "red",
                "repository.compression",
                "brotli, and this wal-g was built without it",
                "lz4, zstd, or a wal-g with brotli",
                NO_BROTLI_HINT,
            )
        )
    return found


def program_holds(program: str, words: bytes) -> bool:
    """Return whether a program was built with a text in it.

    No command of wal-g's tells what it was built without.
    """
    with (
        Path(program).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(words) >= 0


def good_settings(
    settings: Mapping[str, str], ours: Collection[str], *, encrypted: bool
) -> ToolFinding:
    """Return the finding for settings with which nothing is wrong."""
    names = sorted(set(settings) - set(ours))
    how = "encrypted" if encrypted else "not encrypted"
    return ToolFinding(
        "green", "wal-g's own settings", f"{how}; passed on: {', '.join(names) or 'none'}"
    )


def _file(wrong: list[ToolFinding]) -> Mapping[str, str]:
    """Read ``~/.walg.json``.

    wal-g looks for it in the home that the operating system knows of, whatever HOME says.
    """
    try:
        file = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".walg.json"
    except KeyError:  # a user without a home
        return {}
    try:
        read = json.loads(file.read_text()) if file.exists() else {}
    except (OSError, ValueError) as error:
        wrong.append(
            ToolFinding(
                "red",
                f"{file}",
                f"unreadable: {type(error).__name__}",
                "JSON, readable for this user",
                f"correct {file}, or remove it",
            )
        )
        return {}
    return {str(name): str(value) for name, value in read.items()} if isinstance(read, dict) else {}


def _elsewhere(url: str, where: str, name: str, value: str) -> Iterator[ToolFinding]:
    if value and value.rstrip("/") not in (url, url.removeprefix("file://")):
        yield ToolFinding(
            "warn",
            f"{name} ({where})",
            f"{value}",
            f"{url}, where pgdrill leads wal-g",
            f"take {name} away there, or set repository.url to the same place",
        )
