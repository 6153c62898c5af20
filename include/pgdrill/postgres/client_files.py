"""Files of this host that libpq goes by: passwords, keys and services that it passes over.

libpq is silent about some, and says of others that they are not there. Each comes with what lets it
be read.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from pgdrill.host.place import this_user

KEY = re.compile(r'private key file "(?P<path>[^"]+)"')
SOCKET = re.compile(r'on socket "(?P<path>[^"]+)" failed: Permission denied')
SERVICE_FILE = re.compile(r'service file "(?P<path>[^"]+)" not found')
SERVICE = re.compile(r'definition of service "(?P<name>[^"]*)" not found')
NO_PASSWORD = re.compile(r"no password supplied|empty password", re.IGNORECASE)
# libpq's words for an address, and the variables that it takes where nobody says them
ADDRESS = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "service": "PGSERVICE"}
DEBIAN_SERVICES = Path("/etc/postgresql-common")


def passed_over(found: str, words: Mapping[str, str]) -> tuple[str, str] | None:
    """Return what is wrong with a file that a refused connection was to go by, and what mends it.

    None where no file is in the way.
    """
    if named := KEY.search(found):
        key = Path(named["path"])
        return _closed_to_us(key) or _strangers(key) or _open_to_others(key)
    if named := SERVICE_FILE.search(found):
        return _closed_to_us(Path(named["path"])) or (
            f"no file {named['path']}",
            f"write it: {_service(words.get('service') or os.environ.get('PGSERVICE', 'prod'))}",
        )
    if named := SERVICE.search(found):
        return _no_service(named["name"], words)
    if named := SOCKET.search(found):
        return _closed_socket(Path(named["path"]))
    if NO_PASSWORD.search(found) and not (words.get("password") or os.environ.get("PGPASSWORD")):
        return _password_file(words)
    return None


def from_the_environment(words: Mapping[str, str]) -> str:
    """Return, as a hint's end, which of the environment's variables chose the address.

    Empty where the connection string says all of it.
    """
    chose = [
        f"{variable}={value}"
        for word, variable in ADDRESS.items()
        if word not in words and (value := os.environ.get(variable))
    ]
    if not chose:
        return ""
    return (
        f"; {' and '.join(chose)} of the environment chose the address: unset"
        f" {'it' if len(chose) == 1 else 'them'}, or say it in server.dsn"
    )


def password_file(words: Mapping[str, str]) -> Path:
    """Return the file in which libpq looks for a password that nobody gave it."""
    named = words.get("passfile") or os.environ.get("PGPASSFILE")
    return Path(named) if named else _home() / ".pgpass"


def _password_file(words: Mapping[str, str]) -> tuple[str, str] | None:
    file = password_file(words)
    if trouble := _closed_to_us(file):
        return trouble
    try:
        mode = file.stat().st_mode
    except OSError:
        return None  # that a password lacks is told anyway, with the line to write
    if not stat.S_ISREG(mode):
        return (
            f"{file} is no plain file, so libpq passes over it",
            f"put a plain file in its place, `chmod 0600 {shlex.quote(str(file))}`",
        )
    return _open_to_others(file)


def _open_to_others(file: Path) -> tuple[str, str] | None:
    """Return the trouble with a secret that others may read: libpq takes none of these."""
    try:
        seen = file.stat()
    except OSError:
        return None
    path, mode = shlex.quote(str(file)), stat.S_IMODE(seen.st_mode)
    if not mode & 0o077:
        return None
    mine = os.geteuid() in (0, seen.st_uid)
    hint = (
        f"`chmod 0600 {path}`"
        if mine
        else f"as root: `chown {this_user()} {path} && chmod 0600 {path}`"
    )
    return f"{file} has mode {mode:04o}, open to others, so libpq passes over it", hint


def _strangers(file: Path) -> tuple[str, str] | None:
    """Return the trouble with a key that is neither this user's nor root's: libpq takes none."""
    try:
        owner = file.stat().st_uid
    except OSError:
        return None
    if owner in (0, os.geteuid()):
        return None
    return f"{file} is user {owner}'s", f"as root: `chown {this_user()} {shlex.quote(str(file))}`"


def _closed_to_us(file: Path) -> tuple[str, str] | None:
    """Return the trouble with a file that is there, or may be, and cannot be read."""
    path = shlex.quote(str(file))
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK))
    except PermissionError:
        try:
            seen = file.stat()
        except OSError:
            folder = next(
                (
                    one
                    for one in reversed(file.parents)
                    if not os.access(one, os.X_OK, effective_ids=True)
                ),
                file.parent,
            )
            return (
                f"{file} cannot be reached by {this_user()}: its folder {folder} is closed",
                (
                    f"as root: `chgrp {_group()} {shlex.quote(str(folder))} && chmod g+x"
                    f" {shlex.quote(str(folder))}`; or put the file elsewhere"
                ),
            )
        mine = seen.st_uid == os.geteuid()
        hint = (
            f"`chmod 0600 {path}`"
            if mine
            else (
                f"as root: `chown {this_user()} {path} && chmod 0600 {path}`; or give {this_user()}"
                " one of its own"
            )
        )
        return (
            (
                f"{file} cannot be read by {this_user()}: it is user {seen.st_uid}'s, mode"
                f" {stat.S_IMODE(seen.st_mode):04o}"
            ),
            hint,
        )
    except OSError:
        return None
    return None


def _closed_socket(socket: Path) -> tuple[str, str]:
    """Return the trouble with a socket that its folder's mode or unix_socket_permissions closes."""
    where = (
        f"its folder {socket.parent} is closed"
        if not os.access(socket.parent, os.X_OK, effective_ids=True)
        else f"{socket} is closed (unix_socket_permissions)"
    )
    return (
        f"{where} to {this_user()}",
        (
            "let server.dsn go over TCP (`host=localhost`), or run pgdrill as the user that the"
            " server runs as"
        ),
    )


def _no_service(name: str, words: Mapping[str, str]) -> tuple[str, str]:
    """Return the trouble with a service that none of the files has which this libpq reads.

    For the system's file, Debian's programs have another folder than a wheel's library.
    """
    own = Path(os.environ.get("PGSERVICEFILE") or _home() / ".pg_service.conf")
    if trouble := _closed_to_us(own):
        return trouble
    system = DEBIAN_SERVICES / "pg_service.conf"
    try:
        if re.search(
            rf"^\[{re.escape(name)}\]\s*$", system.read_text(errors="replace"), re.MULTILINE
        ):
            return (
                f"{system} has it, and this libpq reads other files",
                (
                    "in the environment of whatever runs pgdrill: `export"
                    f" PGSYSCONFDIR={DEBIAN_SERVICES}`"
                ),
            )
    except PermissionError:
        return _closed_to_us(system) or (f"{system} cannot be read", "let it be read by everybody")
    except OSError:
        pass
    named = (
        "correct service= in server.dsn"
        if words.get("service")
        else "unset PGSERVICE in the environment, where server.dsn says the address"
    )
    return (f"{own} has none of that name", f"add it there: {_service(name)}; or {named}")


def _service(name: str) -> str:
    return (
        f"`[{name}]` in a line of its own, then `host=`, `port=`, `dbname=` and `user=`, each in a"
        " line"
    )


def _home() -> Path:
    return Path(os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)


def _group() -> str:
    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        return str(os.getegid())
