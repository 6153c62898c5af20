"""Stores, and the variables of the tools."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

from pgdrill.repository.tools.walg_installation import BROTLI, WITHOUT_SODIUM, program_holds
from tests.integration.doctor.test_doctor import Forbidding
from tests.setups.host import Host
from tests.setups.setup import Answer, Setup

FAMILY = "store and tool"


def _forbidding(pattern: str) -> Callable[[Host], None]:
    """A store whose policy refuses these calls; archiving has keys of its own, which may."""

    def put(made: Host) -> None:
        proxy = made.closing.enter_context(Forbidding(made.s3.endpoint_url, made.s3.bucket))
        proxy.forbidden = pattern  # type: ignore[misc]
        made.endpoint_url = proxy.endpoint_url
        made.write_config()

    return put


def _pgp(made: Host) -> None:
    """A key without a passphrase, private part and all."""
    home = made.home / "gpg"
    home.mkdir(mode=0o700)
    words = ["gpg", "--homedir", str(home), "--batch", "--yes", "--passphrase", ""]
    subprocess.run(
        [*words, "--quick-generate-key", "pgdrill", "rsa2048", "cert,encr"],
        check=True,
        capture_output=True,
    )
    (made.home / "key").touch(mode=0o600)
    (made.home / "key").write_bytes(
        subprocess.run(
            [*words, "--armor", "--export-secret-keys", "pgdrill"], check=True, capture_output=True
        ).stdout
    )
    subprocess.run(
        ["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=False, capture_output=True
    )


def _without_sodium() -> bool:
    found = shutil.which("wal-g")
    return found is not None and program_holds(found, WITHOUT_SODIUM)


def _without_brotli() -> bool:
    found = shutil.which("wal-g")
    return found is not None and not program_holds(found, BROTLI)


def _key(made: Host) -> None:
    (made.home / "libsodium.key").write_text("0" * 64)


def _folder(made: Host) -> None:
    (made.home / "repository").mkdir()


def repository(**values: object) -> dict[str, dict[str, object]]:
    return {"repository": values}


SODIUM = {"WALG_LIBSODIUM_KEY_PATH": "{home}/libsodium.key", "WALG_LIBSODIUM_KEY_TRANSFORM": "hex"}
FOLDER = repository(url="file://{home}/repository", endpoint_url="")
SETUPS = (
    Setup(FAMILY, "a folder for a store", config=FOLDER, before=_folder, dump=True),
    Setup(
        FAMILY,
        "a folder for a store that nobody has made",
        config=repository(url="file://{home}/none/repository", endpoint_url=""),
        red=("list",),
        why=(
            "the first job makes it; a disk that is not mounted would look the same, so doctor asks"
            " for it beforehand"
        ),
    ),
    Setup(
        FAMILY,
        "a folder for a store",
        "barman-cloud",
        mistakes=FOLDER,
        red=("config-invalid",),
        answer=Answer("backup", "config-invalid", "s3://", "config check"),
    ),
    Setup(FAMILY, "a prefix with spaces", config=repository(url="s3://backups/our agents/prod 1")),
    Setup(
        FAMILY,
        "a prefix with spaces",
        "barman-cloud",
        config=repository(url="s3://backups/our agents/prod 1"),
    ),
    *(
        Setup(
            FAMILY,
            f"half a pair of AWS keys ({name} is not set)",
            environment={name: None},
            red=("keys",),
            answer=Answer("backup", "half-a-key", name, name),
        )
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    ),
    Setup(
        FAMILY,
        "no AWS keys at all",
        environment={"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
        red=("list",),
        answer=Answer("backup", "no-keys", "key", "AWS_ACCESS_KEY_ID"),
    ),
    Setup(
        FAMILY,
        "a wrong secret key",
        environment={"AWS_SECRET_ACCESS_KEY": "wrong"},
        red=("list",),
        answer=Answer("backup", "storage-refused", "403", "AWS"),
    ),
    Setup(
        FAMILY,
        "a bucket that does not exist",
        config=repository(url="s3://nobodys/agents"),
        red=("list",),
        answer=Answer("backup", "no-bucket", "NoSuchBucket", "repository.url"),
    ),
    Setup(
        FAMILY,
        "no right to write",
        after=_forbidding("^PUT"),
        red=("put",),
        answer=Answer("backup", "storage-refused", "403", "policy"),
    ),
    Setup(
        FAMILY,
        "no right to delete, for backups and drills",
        after=_forbidding("^DELETE|^POST .*delete"),
        jobs=("backup", "drill"),
    ),
    Setup(
        FAMILY,
        "an endpoint where nobody listens",
        config=repository(endpoint_url="http://127.0.0.1:9"),
        red=("list",),
        answer=Answer("backup", "storage-unreachable", "127.0.0.1:9", "endpoint_url"),
    ),
    Setup(FAMILY, "compression zstd", config=repository(compression="zstd")),
    Setup(
        FAMILY,
        "compression brotli",
        config=repository(compression="brotli"),
        here=lambda: not _without_brotli(),
    ),
    Setup(
        FAMILY,
        "compression brotli, by a wal-g that was built without it",
        config=repository(compression="brotli"),
        here=_without_brotli,
        red=("tool-variables",),
        answer=Answer("backup", "no-compression", "brotli", "repository.compression"),
    ),
    Setup(FAMILY, "compression none", "barman-cloud", config=repository(compression="none")),
    Setup(
        FAMILY,
        "compression lzma of wal-g",
        mistakes=repository(compression="lzma"),
        red=("config-invalid",),
        answer=Answer("backup", "config-invalid", "lzma", "config check"),
    ),
    Setup(
        FAMILY,
        "wal-g's own WALG_COMPRESSION_METHOD=brotli in the environment",
        environment={"WALG_COMPRESSION_METHOD": "brotli"},
    ),
    Setup(
        FAMILY,
        "encrypted with a PGP key",
        before=_pgp,
        environment={"WALG_PGP_KEY_PATH": "{home}/key"},
        dump=True,
        here=lambda: bool(shutil.which("gpg")),
    ),
    Setup(
        FAMILY,
        "encrypted with a PGP key that is not there",
        after=lambda made: (made.home / "key").unlink(),
        before=_pgp,
        environment={"WALG_PGP_KEY_PATH": "{home}/key"},
        here=lambda: bool(shutil.which("gpg")),
        red=("tool-variables",),
        answer=Answer("backup", "no-key", "/key", "WALG_PGP_KEY_PATH"),
    ),
    Setup(
        FAMILY,
        "encrypted with a libsodium key",
        environment=SODIUM,
        before=_key,
        here=lambda: not _without_sodium(),
    ),
    Setup(
        FAMILY,
        "encrypted with a libsodium key, by a wal-g that was built without it",
        environment=SODIUM,
        before=_key,
        here=_without_sodium,
        red=("tool-variables",),
        answer=Answer("backup", "no-libsodium", "not compiled with libsodium", "WALG_PGP_KEY_PATH"),
    ),
    Setup(
        FAMILY,
        "WALG_S3_PREFIX of another place in the environment",
        environment={"WALG_S3_PREFIX": "s3://elsewhere/agents"},
        warns=("tool-variables",),
    ),
    Setup(
        FAMILY,
        "delta backups (WALG_DELTA_MAX_STEPS=3), the second of them drilled",
        environment={"WALG_DELTA_MAX_STEPS": "3"},
        backups=2,
    ),
    Setup(
        FAMILY,
        "delta backups (backup.delta_steps = 3), the second of them drilled",
        config={"backup": {"delta_steps": 3}},
        backups=2,
    ),
    Setup(
        FAMILY,
        "WALG_PREVENT_WAL_OVERWRITE, WALG_USE_WAL_DELTA, WALG_UPLOAD_WAL_METADATA",
        environment={
            "WALG_PREVENT_WAL_OVERWRITE": "true",
            "WALG_USE_WAL_DELTA": "true",
            "WALG_UPLOAD_WAL_METADATA": "INDIVIDUAL",
        },
    ),
    Setup(
        FAMILY,
        "WALG_DISK_RATE_LIMIT and WALG_NETWORK_RATE_LIMIT",
        environment={"WALG_DISK_RATE_LIMIT": "50000000", "WALG_NETWORK_RATE_LIMIT": "50000000"},
    ),
    Setup(
        FAMILY, "WALG_WITHOUT_FILES_METADATA", environment={"WALG_WITHOUT_FILES_METADATA": "true"}
    ),
    Setup(
        FAMILY,
        "a tool that is not installed",
        mistakes=repository(binary="{home}/wal-g"),
        red=("tool", "tool-variables"),
        answer=Answer("backup", "tool-missing", "wal-g", "repository.binary"),
    ),
)
