"""Examinations of the backup tool on this host.

Is it there, is its version known to work, and what do its own variables say?
"""

from __future__ import annotations

import json
import mmap
import os
import pwd
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, red, unknown, warn
from pgdrill.doctor.subject import Subject
from pgdrill.host.process import Command, ProcessTimeout, Runner
from pgdrill.repository.failures import NO_BROTLI_HINT, NO_LIBSODIUM_HINT
from pgdrill.repository.tools import BackupTool

TRIED = {"wal-g": ((3, 0, 8),), "barman-cloud": ((3, 19, 1),)}
OLDEST = {"wal-g": (3, 0, 0), "barman-cloud": (3, 13, 0)}
VERSION = re.compile(r"\bv?(\d+)\.(\d+)(?:\.(\d+))?")
# commands of wal-g, as its help lists them
COMMANDS = ("backup-push", "backup-fetch", "backup-mark", "wal-push", "wal-fetch", "delete", "st")
# the programs barman-cloud-…
PROGRAMS = ("backup", "restore", "wal-archive", "wal-restore", "backup-keep", "backup-delete")
# wal-g's own: it reads them from its file, too. Those that name a place, or what backups consist
# of, are pgdrill's to set.
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


@examination(
    "tool",
    "tool",
    green="the backup tool is on this host, in a version that is known to work",
    hint="install the version that pgdrill was tried with, or set repository.binary in dr.toml",
    example="wal-g: not on PATH",
)
def version(subject: Subject) -> Iterator[Finding]:
    """Compare the tool's version with those that are known to work.

    A build of one's own tells no number: then its commands are looked at.
    """
    tool = subject.access.tool
    try:
        done = Runner().run(tool.version(), timeout_seconds=subject.seconds, quiet=True)
    except ProcessTimeout as error:
        yield unknown(tool.name, f"{error}", "its version")
        return
    said = " ".join((done.stdout or " ".join(done.last_lines)).split())
    tried = " or ".join(".".join(map(str, one)) for one in TRIED[tool.name])
    if done.code:
        yield red(tool.name, f"--version ended with {done.ended}", "its version")
    elif missing := _missing(subject, tool):
        yield red(
            tool.name,
            f"{said}, without {', '.join(missing)}",
            f"all that pgdrill uses; it was tried with {tried}",
        )
    elif not (number := VERSION.search(said)):
        yield green(
            tool.name, f"{said}: a build of its own, which has every command that pgdrill uses"
        )
    elif (found := tuple(int(part or 0) for part in number.groups())) in TRIED[tool.name]:
        yield green(tool.name, f"{said}, at {tool.version().argv[0]}")
    else:
        judge = red if found < OLDEST[tool.name] else warn
        yield judge(
            tool.name,
            said,
            f"{tried}, with which pgdrill was tried",
            f"install {tool.name} {tried}, or drill with this one and read the report",
        )


@examination(
    "tool-variables",
    "tool",
    green=(
        "no variable or file of the tool's own contradicts the configuration, and keys that it"
        " names can be read"
    ),
    hint="take it out of the environment of the worker, or let repository.url say the same",
    example="WALG_S3_PREFIX: another place than repository.url",
)
def variables(subject: Subject) -> Iterator[Finding]:
    """Look at the tool's variables, by their names.

    A value is shown of places alone, never of keys.
    """
    tool = subject.access.tool
    if tool.name != "wal-g":
        own = sorted(
            name
            for name in os.environ
            if name.startswith(("AWS_", "BOTO")) and name not in tool.environment()
        )
        yield green("barman-cloud's variables", f"passed on: {', '.join(own) or 'none'}")
        return
    wrong: list[Finding] = []
    settings: dict[str, str] = {}
    for where, values in (
        ("~/.walg.json", _file(wrong)),
        ("environment", {k: v for k, v in os.environ.items() if k.startswith("WALG_")}),
    ):
        settings |= values
        wrong += [
            finding
            for name in PLACES
            if (finding := _place(subject, where, name, values.get(name, "")))
        ]
    for name in KEY_FILES:
        if (path := settings.get(name)) and not os.access(path, os.R_OK):
            wrong.append(
                red(
                    name,
                    f"{path} cannot be read",
                    "the key's file",
                    f"put the key there, readable for this user (`chmod 0400 {path}`), or correct"
                    f" {name}",
                )
            )
    if any(settings.get(name) for name in SODIUM) and program_holds(
        tool.version().argv[0], WITHOUT_SODIUM
    ):
        wrong.append(
            red(
                "WALG_LIBSODIUM_KEY",
                "this wal-g was not compiled with libsodium",
                "one that was",
                NO_LIBSODIUM_HINT,
            )
        )
    if subject.access.cluster.repository.compression == "brotli" and not program_holds(
        tool.version().argv[0], BROTLI
    ):
        wrong.append(
            red(
                "repository.compression",
                "brotli, and this wal-g was built without it",
                "lz4, zstd, or a wal-g with brotli",
                NO_BROTLI_HINT,
            )
        )
    yield from wrong or [green("wal-g's own settings", _told(tool, settings))]


def program_holds(program: str, words: bytes) -> bool:
    """Return whether a program was built with a text in it.

    No command of wal-g's tells what it was built without.
    """
    with (
        Path(program).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(words) >= 0


def _missing(subject: Subject, tool: BackupTool) -> list[str]:
    """Return what pgdrill uses and this tool lacks."""
    program = tool.version().argv[0]
    if tool.name != "wal-g":
        folder = Path(program).parent
        return [
            f"barman-cloud-{name}"
            for name in PROGRAMS
            if not (folder / f"barman-cloud-{name}").is_file()
        ]
    done = Runner().run(Command((program, "--help")), timeout_seconds=subject.seconds, quiet=True)
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.split()}
    return [f"`{name}`" for name in COMMANDS if name not in listed]


def _file(wrong: list[Finding]) -> Mapping[str, str]:
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
            red(
                f"{file}",
                f"unreadable: {type(error).__name__}",
                "JSON, readable for this user",
                f"correct {file}, or remove it",
            )
        )
        return {}
    return {str(name): str(value) for name, value in read.items()} if isinstance(read, dict) else {}


def _place(subject: Subject, where: str, name: str, value: str) -> Finding | None:
    url = subject.access.cluster.repository.url
    if not value or value.rstrip("/") in (url, url.removeprefix("file://")):
        return None
    return warn(
        f"{name} ({where})",
        f"{value}",
        f"{url}, where pgdrill leads wal-g",
        f"take {name} away there, or set repository.url to the same place",
    )


def _told(tool: BackupTool, settings: Mapping[str, str]) -> str:
    names = sorted(set(settings) - set(tool.environment()))
    encrypted = "encrypted" if tool.encrypts(settings) else "not encrypted"
    return f"{encrypted}; passed on: {', '.join(names) or 'none'}"
