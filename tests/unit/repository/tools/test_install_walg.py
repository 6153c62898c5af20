"""Fetching wal-g from a release page: a real HTTP server on this machine plays the host."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import platform
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pgdrill.repository.tools import install_walg

PROGRAM = b"#!/bin/sh\necho wal-g version v3.0.8\n"


@dataclass
class Host:
    """What a release page answers: body, status and (where it lies about it) length per path."""

    url: str = ""
    assets: dict[str, bytes] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    delay_seconds: float = 0.0
    asked: list[str] = field(default_factory=list)

    def offer(self, archive: bytes, *, digest: str = "") -> None:
        """Publish ``archive`` under its name for this machine, with its digest beside it."""
        digest = digest or hashlib.sha256(archive).hexdigest()
        self.assets[ASSET] = archive
        self.assets[f"{ASSET}.sha256"] = f"{digest}  {ASSET}\n".encode()


ASSET = "wal-g-pg-22.04-amd64.tar.gz"


@pytest.fixture
def host() -> Iterator[Host]:
    it = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            it.asked.append(name)
            time.sleep(it.delay_seconds)
            body = it.assets.get(name, b"")
            self.send_response(it.status.get(name, 200 if name in it.assets else 404))
            self.send_header("Content-Length", str(it.lengths.get(name, len(body))))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a client that gave up
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    it.url = f"http://127.0.0.1:{server.server_port}/wal-g/releases/download/v3.0.8"
    yield it
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: Host) -> None:
    """Linux on x86_64, no wal-g on PATH, and a release page of our own."""
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv(install_walg.RELEASE_URL_VARIABLE, host.url)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "project" / ".local" / "bin"


def run(into: Path, *more: str) -> int:
    return install_walg.main(["--into", str(into), *more])


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def release() -> bytes:
    return tar_of((tarfile.TarInfo("wal-g-pg-22.04-amd64"), PROGRAM))


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_good_release_is_installed_executable_and_nothing_else_stays(
    host: Host, into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.offer(release())
    assert run(into) == 0
    assert left_in(into) == ["wal-g"]
    assert (into / "wal-g").stat().st_mode & 0o777 == 0o755
    ran = subprocess.run(
        [into / "wal-g"], capture_output=True, text=True, check=True, env={"PATH": os.defpath}
    )
    assert ran.stdout == "wal-g version v3.0.8\n"
    assert capsys.readouterr().out == f"wal-g v3.0.8 installed: {into / 'wal-g'}\n"


def test_an_installed_wal_g_is_not_downloaded_again(
    host: Host, into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.offer(release())
    run(into)
    host.asked.clear()
    assert run(into) == 0
    assert host.asked == []
    assert f"already installed: {into / 'wal-g'}" in capsys.readouterr().out


def test_a_wal_g_on_path_is_left_alone_and_named(
    host: Host,
    into: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = tmp_path / "bin" / "wal-g"
    found.parent.mkdir()
    found.write_bytes(PROGRAM)
    found.chmod(0o755)
    monkeypatch.setenv("PATH", str(found.parent))
    assert run(into) == 0
    assert (host.asked, left_in(into)) == ([], [])
    assert capsys.readouterr().out == f"wal-g is already installed: {found}\n"


def test_a_wrong_checksum_is_an_error_and_installs_nothing(
    host: Host, into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.offer(release(), digest="0" * 64)
    assert run(into) == 1
    assert left_in(into) == []
    assert f"its .sha256 asset says {'0' * 64}" in capsys.readouterr().err


def test_a_checksum_asset_without_a_digest_is_an_error(
    host: Host, into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.offer(release())
    host.assets[f"{ASSET}.sha256"] = b"<html>please log in</html>"
    assert run(into) == 1
    assert left_in(into) == []
    assert "holds no sha256 digest" in capsys.readouterr().err


def test_a_download_that_ends_early_installs_nothing_and_says_how_far_it_came(
    host: Host, into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = release()
    host.offer(archive)
    host.assets[ASSET] = archive[:-40]
    host.lengths[ASSET] = len(archive)
    assert run(into) == 0
    assert left_in(into) == []
    assert f"ended after {len(archive) - 40} of {len(archive)} bytes" in capsys.readouterr().out


def test_a_host_that_refuses_is_one_line_and_set_up_goes_on(
    into: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:  # bound, not listening: nobody else gets the port meanwhile
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv(
            install_walg.RELEASE_URL_VARIABLE, f"http://127.0.0.1:{unused.getsockname()[1]}"
        )
        assert run(into) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    assert "refused" in said.out
    assert "demo and tests go on with barman-cloud" in said.out
    assert said.out.endswith("by hand\n")
    assert (said.err, left_in(into)) == ("", [])


def test_a_name_that_does_not_resolve_is_one_line_and_set_up_goes_on(
    into: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(install_walg.RELEASE_URL_VARIABLE, "http://nowhere.invalid")
    assert run(into) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_a_host_that_never_answers_is_given_up_in_time(host: Host, into: Path) -> None:
    host.offer(release())
    host.delay_seconds = 2.0
    started = time.monotonic()
    with pytest.raises(install_walg.Unavailable, match=r"timed out|no answer"):
        install_walg.install(into, timeout_seconds=0.2)
    assert time.monotonic() - started < 1.5
    assert left_in(into) == []


def test_a_gateway_that_answers_503_counts_as_not_reachable(
    host: Host, into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.status[f"{ASSET}.sha256"] = 503
    assert run(into) == 0
    assert "answered HTTP 503" in capsys.readouterr().out


def test_an_image_that_requires_wal_g_is_not_built_without_it(host: Host, into: Path) -> None:
    host.status[f"{ASSET}.sha256"] = 503
    assert run(into, "--required") == 1


def test_a_release_page_without_the_asset_is_an_error_that_names_the_variable(
    into: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(into) == 1
    said = capsys.readouterr().err
    assert "HTTP 404" in said
    assert install_walg.RELEASE_URL_VARIABLE in said


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    it = tarfile.TarInfo(name)
    it.type, it.linkname = kind, link
    return it


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(tar_of((member("../../evil"), PROGRAM)), id="a path out of the folder"),
        pytest.param(tar_of((member("/tmp/evil"), PROGRAM)), id="an absolute path"),
        pytest.param(
            tar_of((member("wal-g", tarfile.SYMTYPE, "/bin/sh"), b"")), id="a symbolic link"
        ),
        pytest.param(tar_of((member("wal-g", tarfile.LNKTYPE, "other"), b"")), id="a hard link"),
        pytest.param(tar_of((member("wal-g", tarfile.DIRTYPE), b"")), id="a folder"),
        pytest.param(tar_of((member("wal-g"), PROGRAM), (member("more"), b"")), id="a second file"),
        pytest.param(tar_of(), id="no file at all"),
        pytest.param(b"not an archive", id="no archive"),
        pytest.param(release()[:60], id="a cut archive"),
    ],
)
def test_an_archive_that_is_not_one_plain_file_is_refused_though_its_checksum_is_right(
    host: Host, into: Path, tmp_path: Path, archive: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    host.offer(archive)
    assert run(into) == 1
    assert left_in(into) == []
    assert not list(tmp_path.rglob("evil"))
    assert "NOT installed" in capsys.readouterr().err


@pytest.mark.parametrize(("system", "machine"), [("Linux", "riscv64"), ("Darwin", "arm64")])
def test_a_machine_without_an_official_build_goes_on_with_barman_cloud(
    system: str,
    machine: str,
    host: Host,
    into: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert run(into) == 0
    assert host.asked == []
    assert f"no official build of v3.0.8 for {system} on {machine}" in capsys.readouterr().out


def test_a_64_bit_arm_machine_gets_its_own_asset() -> None:
    assert install_walg.asset_name("Linux", "aarch64") == "wal-g-pg-22.04-aarch64.tar.gz"


def test_an_address_that_is_not_http_is_refused(
    into: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(install_walg.RELEASE_URL_VARIABLE, "file:///etc")
    assert run(into) == 1
    assert "must start with https://" in capsys.readouterr().err


def test_a_killed_download_leaves_nothing_that_looks_installed(
    host: Host, into: Path, tmp_path: Path
) -> None:
    archive = release()
    host.offer(archive)
    host.delay_seconds = 1.0  # the digest after 1 s, the archive after 2 s
    command = [sys.executable, "-m", "pgdrill.repository.tools.install_walg", "--into", str(into)]
    child = subprocess.Popen(command, env={**os.environ, "PATH": str(tmp_path)})
    deadline = time.monotonic() + 20
    while ASSET not in host.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert ASSET in host.asked
    assert not (into / "wal-g").exists()
    host.delay_seconds = 0.0
    assert run(into) == 0, "the next run installs it"


@pytest.mark.skipif(
    not shutil.which("make", path="/usr/bin:/bin"), reason="make is not in /usr/bin"
)
@pytest.mark.parametrize(("goal", "asked"), [("setup", True), ("lint", False)])
def test_make_setup_tries_again_what_could_not_be_fetched_and_other_goals_lose_no_time(
    host: Host, tmp_path: Path, goal: str, asked: bool
) -> None:
    host.offer(release())
    for name, text in (
        ("scripts/setup.sh", "exit 0\n"),
        (".venv/.ready", "as before"),
        (".venv/bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / ".venv/bin/python").chmod(0o755)
    shutil.copy(Path(__file__).parents[4] / "Makefile", tmp_path)
    where = str(Path(install_walg.__file__).parents[2])
    done = subprocess.run(
        ["make", "-C", str(tmp_path), goal],
        check=False,
        env={**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": where},
        capture_output=True,
        text=True,
    )
    assert ("wal-g" in done.stdout) == asked, done.stdout + done.stderr
    if asked and not shutil.which("wal-g", path="/usr/bin:/bin"):
        assert (tmp_path / ".local" / "bin" / "wal-g").is_file()
