"""Files that libpq passes over, or says are not there: what is told names the file and what is
wrong with it, and the hint mends it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.config import parse
from pgdrill.doctor import diagnose
from pgdrill.errors import Refused
from pgdrill.host.place import this_user
from pgdrill.postgres.server import LocalServer
from tests.integration.worlds import empty_server

STRANGER = 12345
COMMAND = re.compile(r"`([^`]+)`")
PASSWORD = "hunter2-very-secret"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """One that asks the role pgdrill for a password."""
    with _open_to_others(Path(tempfile.gettempdir())), empty_server() as made:
        rules = made.data_directory / "pg_hba.conf"
        rules.write_text(f"local all pgdrill scram-sha-256\n{rules.read_text()}")
        with made.system() as connection:
            connection.execute(f"CREATE ROLE pgdrill LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("GRANT pg_monitor TO pgdrill")
            connection.execute("SELECT pg_reload_conf()")
        made.data_directory.parent.chmod(0o755)  # another user comes to its socket
        made.socket_directory.chmod(0o755)
        yield made


@contextlib.contextmanager
def _open_to_others(folder: Path) -> Iterator[None]:
    """What the tests' own temporary folder is not."""
    mode = folder.stat().st_mode & 0o7777
    if os.geteuid() == 0:
        folder.chmod(mode | 0o011)
    yield
    if os.geteuid() == 0:
        folder.chmod(mode)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of whoever asks; others may come in."""
    for name in list(os.environ):
        if name.startswith("PG") and name != "PGDRILL_THOROUGH":
            monkeypatch.delenv(name)
    made = Path(tempfile.mkdtemp(prefix="pgt-"))
    made.chmod(0o755)
    monkeypatch.setenv("HOME", str(made))
    yield made
    shutil.rmtree(made)


@contextlib.contextmanager
def as_somebody_else() -> Iterator[None]:
    """Root may read everything; where the tests run as an ordinary user, files are closed to
    him."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(STRANGER)
    os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def access(server: LocalServer, home: Path, dsn: str = "") -> Access:
    words = dsn or f"host={server.socket_directory} port=5432 user=pgdrill dbname=postgres"
    cluster = {
        "server": {"dsn": words, "data_directory": f"{home}/pgdata"},
        "repository": {"url": f"file://{home}/backups"},
    }
    return Access(parse({"clusters": {"agents": cluster}}, home / "dr.toml").cluster("agents"))


def told(one: Access) -> tuple[str, str]:
    with pytest.raises(Refused) as error, one.connect():
        pass
    assert error.value.problem.reason == "login-refused"
    return error.value.problem.found, error.value.problem.hint


def written(file: Path, text: str, mode: int = 0o600) -> Path:
    file.touch(mode=0o600)
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize("how", ["~/.pgpass", "PGPASSFILE", "passfile="])
@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_a_password_file_that_others_may_read_is_named_with_its_mode_and_works_after_the_hint(
    server: LocalServer, home: Path, monkeypatch: pytest.MonkeyPatch, how: str, mode: int
) -> None:
    file = written(
        home / (".pgpass" if how == "~/.pgpass" else "my pass"), f"*:*:*:pgdrill:{PASSWORD}\n", mode
    )
    words = ""
    if how == "PGPASSFILE":
        monkeypatch.setenv("PGPASSFILE", str(file))
    elif how == "passfile=":
        words = (
            f"host={server.socket_directory} port=5432 user=pgdrill dbname=postgres"
            f" passfile='{file}'"
        )
    one = access(server, home, words)
    found, hint = told(one)
    assert f"{file} has mode {mode:04o}" in found
    lines = {line.name: line for line in diagnose(one, parts=("server",), jobs=("dump",)).lines}
    assert (lines["login"].status, lines["login"].hint) == ("red", hint)
    subprocess.run(shlex.split(COMMAND.findall(hint)[0]), check=True)
    with one.connect() as connection:
        assert connection.info.user == "pgdrill"


def test_a_password_file_that_is_not_this_user_s_to_read_is_told_as_that(
    server: LocalServer, home: Path
) -> None:
    file = written(
        home / ".pgpass", f"*:*:*:pgdrill:{PASSWORD}\n", 0o600 if os.geteuid() == 0 else 0
    )
    with as_somebody_else():
        found, hint = told(access(server, home))
    assert f"{file} cannot be read by " in found
    assert COMMAND.findall(hint)[0].endswith(f"chmod 0600 {file}")


def test_a_password_file_that_is_right_and_of_a_wrong_password_is_not_to_blame(
    server: LocalServer, home: Path
) -> None:
    written(home / ".pgpass", "*:*:*:pgdrill:wrong\n")
    found, hint = told(access(server, home))
    assert "mode" not in found
    assert "into ~/.pgpass" in hint


def test_the_hint_for_a_missing_password_names_the_file_that_libpq_looks_into(
    server: LocalServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSFILE", f"{home}/elsewhere")
    _, hint = told(access(server, home))
    line = next(word for word in COMMAND.findall(hint) if word.endswith("PASSWORD"))
    assert f"into {home}/elsewhere" in hint
    written(home / "elsewhere", line.replace("PASSWORD", PASSWORD) + "\n")
    with access(server, home).connect():
        pass


def test_a_service_file_that_cannot_be_read_is_not_told_as_one_that_is_not_there(
    server: LocalServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(
        home / "services.conf",
        f"[prod]\nhost={server.socket_directory}\n",
        0o600 if os.geteuid() == 0 else 0,
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    with as_somebody_else():
        found, hint = told(access(server, home, "service=prod"))
    assert f"{file} cannot be read by " in found
    assert f"chmod 0600 {file}" in hint


@pytest.mark.parametrize("there", [True, False])
def test_a_service_that_no_file_has_is_told_with_the_file_to_write_and_no_server_is_called_gone(
    server: LocalServer, home: Path, there: bool
) -> None:
    file = home / ".pg_service.conf"
    if there:
        written(file, "[other]\nhost=/nowhere\n")
    found, hint = told(access(server, home, "service=prod"))
    assert f"{file} has none of that name" in found
    assert "`[prod]`" in hint


def test_a_role_that_nobody_names_is_the_operating_system_s_user_in_the_hint(
    server: LocalServer, home: Path
) -> None:
    rules = server.data_directory / "pg_hba.conf"
    kept = rules.read_text()
    try:
        rules.write_text(f"local postgres {this_user()} scram-sha-256\n{kept}")
        with server.system() as connection:
            connection.execute("SELECT pg_reload_conf()")
        _, hint = told(
            access(server, home, f"host={server.socket_directory} port=5432 dbname=postgres")
        )
    finally:
        rules.write_text(kept)
        with server.system() as connection:
            connection.execute("SELECT pg_reload_conf()")
    assert f"`*:5432:*:{this_user()}:PASSWORD`" in hint
    assert "ROLE ROLE" not in hint


def test_a_socket_that_this_user_may_not_use_is_refused_and_no_server_is_called_gone(
    server: LocalServer, home: Path
) -> None:
    written(home / ".pgpass", f"*:*:*:pgdrill:{PASSWORD}\n")
    folder = server.socket_directory
    folder.chmod(0o700 if os.geteuid() == 0 else 0o600)
    try:
        with as_somebody_else():
            found, hint = told(access(server, home))
    finally:
        folder.chmod(0o755)
    assert "Permission denied" in found
    assert f"{folder} " in found
    assert "host=localhost" in hint


def test_words_that_libpq_does_not_take_are_no_sign_of_a_server_that_is_gone(
    server: LocalServer, home: Path
) -> None:
    found, _ = told(
        access(
            server, home, f"host={server.socket_directory} port=5432 user=pgdrill sslmode=always"
        )
    )
    assert "sslmode" in found
