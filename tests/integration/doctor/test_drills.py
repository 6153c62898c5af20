"""What a drill on this host would lack, and what stands between pgdrill and its server: red with
the real part wrong, green by the hint.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.doctor import Line
from pgdrill.drill import drill
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill_demo.stack import preferred_tool
from tests.damage.small import SmallStack
from tests.integration.doctor.test_doctor import _nothing_of_this_shell, ask, changed, overlay
from tests.integration.worlds import production

__all__ = ["_nothing_of_this_shell"]
LOCALE = "de_PGDRILL.UTF-8"  # which no host has
POOLER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
POOLING = """[databases]
agents = host={server} port=5432 dbname=agents user=pgdrill password={password}
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
auth_type = any
pool_mode = {mode}
ignore_startup_parameters = options, extra_float_digits
server_reset_query_always = {always}
"""


@pytest.fixture(scope="module")
def locales() -> Iterator[Path]:
    """A folder of locales that this process looks into only where LOCPATH says so."""
    if not (shutil.which("localedef") and Path("/usr/share/i18n/locales/de_DE").exists()):
        pytest.skip("no sources of locales are installed here")
    with tempfile.TemporaryDirectory(prefix="pgdrill-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        subprocess.run(
            ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / LOCALE)],
            check=True,
            capture_output=True,
        )
        yield folder


@pytest.fixture(scope="module")
def world() -> Iterator[SmallStack]:
    """With a library that is preloaded."""
    with production(
        preferred_tool(), options={"shared_preload_libraries": "pg_stat_statements"}
    ) as stack:
        yield stack


def of(name: str, access: Access, *parts: str) -> list[Line]:
    return [one for one in ask(access, *parts).lines if one.name == name]


def test_a_locale_that_production_has_and_this_host_lacks_is_red_and_so_is_the_drill(
    locales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCPATH", str(locales))
    with production(preferred_tool()) as stack:
        with stack.connect() as connection:
            connection.execute(
                f"CREATE DATABASE accents TEMPLATE template0 LOCALE '{LOCALE}' ENCODING 'UTF8'"
            )
        take_backup(stack.access)
        assert {one.status for one in of("libraries", stack.access, "drill")} == {"green"}
        monkeypatch.delenv("LOCPATH")
        lacks = of("libraries", stack.access, "drill")
        assert {(one.status, one.thing, one.found) for one in lacks} == {
            ("red", f"locale {LOCALE} of database accents", "not on this host")
        }
        assert "locales" in lacks[0].hint
        trouble = drill(stack.access).restore.trouble
        assert trouble is not None
        assert (trouble.reason, lacks[0].thing in trouble.found) == ("host-not-equipped", True)
        monkeypatch.setenv("LOCPATH", str(locales))  # the locale, installed
        assert {one.status for one in of("libraries", stack.access, "drill")} == {"green"}


def test_a_library_that_is_preloaded_on_production_and_not_on_this_host_is_red_until_it_is_installed(  # noqa: E501
    world: SmallStack, tmp_path: Path
) -> None:
    places = world.access.binaries.places
    assert places is not None
    share = tmp_path / "installed"
    shutil.copytree(places[0], share / "lib")
    shutil.copytree(places[1] / "extension", share / "share" / "extension")
    (share / "lib" / "pg_stat_statements.so").unlink()
    access = changed(world, server={"bin_dir": overlay(world, tmp_path / "bin", share=share)})
    (lacks,) = of("libraries", access, "drill")
    assert (lacks.status, lacks.thing) == (
        "red",
        "library pg_stat_statements (shared_preload_libraries)",
    )
    assert lacks.found == f"not in {share / 'lib'}"
    shutil.copy(places[0] / "pg_stat_statements.so", share / "lib")
    assert [one.status for one in of("libraries", access, "drill")] == ["green"]


@pytest.mark.skipif(POOLER is None, reason="pgbouncer is not installed here")
def test_a_pooler_that_takes_the_settings_away_again_is_red_and_past_it_or_with_one_server_for_a_session_it_is_green(  # noqa: E501
    world: SmallStack,
) -> None:
    with tempfile.TemporaryDirectory(prefix="pgdrill-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        with_pooler = Access(
            changed(
                world, server={"dsn": f"host={folder} port=6432 dbname=agents user=pgdrill"}
            ).cluster,
            Credentials({"user": "pgdrill"}, world.s3.environment),
        )
        with pooler(world, folder, mode="transaction", always=1):
            found = of("session-settings", with_pooler, "settings")
            assert [one.thing for one in found if one.thing == "IntervalStyle"], found
            (told,) = {
                one.name: one
                for one in of("session-settings", with_pooler, "settings")
                if one.thing == "IntervalStyle"
            }.values()
            assert (told.status, told.found, told.expected) == (
                "red",
                "'iso_8601' in a session",
                "'postgres'",
            )
            assert "pooler" in told.hint
            assert {one.status for one in of("session-settings", world.access, "settings")} == {
                "green"
            }, "past it, as the hint says"
        with pooler(world, folder, mode="session", always=0):
            assert {one.status for one in of("session-settings", with_pooler, "settings")} == {
                "green"
            }


class pooler:
    """PgBouncer before that server, whose role has another IntervalStyle (it keeps DateStyle by
    itself).
    """

    def __init__(self, world: SmallStack, folder: Path, *, mode: str, always: int) -> None:
        self.world, self.folder = world, folder
        text = POOLING.format(
            server=world.home,
            password=world.passwords["pgdrill"],
            folder=folder,
            mode=mode,
            always=always,
        )
        self.file = folder / f"{mode}.ini"
        self.file.write_text(text)
        self.file.chmod(0o644)

    def __enter__(self) -> None:
        self._execute("ALTER ROLE pgdrill SET IntervalStyle = 'iso_8601'")
        words = [*as_ordinary_user(), str(POOLER), "--quiet", str(self.file)]
        self.child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (self.folder / ".s.PGSQL.6432").exists():  # it offers no event
            assert self.child.poll() is None, f"pgbouncer ended with {self.child.returncode}"
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.child.terminate()
        self.child.wait()
        (self.folder / ".s.PGSQL.6432").unlink(missing_ok=True)
        self._execute("ALTER ROLE pgdrill RESET IntervalStyle")

    def _execute(self, statement: str) -> None:
        with self.world.connect() as connection:
            connection.execute(statement)  # type: ignore[call-overload]
