"""Stores, and the variables of the tools."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.integration.test_doctor import Forbidding
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


def _walg_json(**values: str) -> Callable[[Host], None]:
    def write(made: Host) -> None:
        (made.user_home / ".walg.json").write_text(made.filled(json.dumps(values)))

    return write


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
    Setup(FAMILY, "a folder for a store that nobody has made", config=repository(url="file://{home}/none/repository", endpoint_url=""), red=("list",),
          why="the first job makes it; a disk that is not mounted would look the same, so doctor asks for it beforehand"),
    Setup(FAMILY, "a folder for a store", "barman-cloud", mistakes=FOLDER, red=("config",), answer=Answer("backup", "config", "s3://", "dr.toml")),
    Setup(FAMILY, "a prefix with spaces", config=repository(url="s3://backups/our agents/prod 1")),
    Setup(FAMILY, "a prefix with spaces", "barman-cloud", config=repository(url="s3://backups/our agents/prod 1")),
    *(Setup(FAMILY, f"half a pair of AWS keys ({name} is not set)", environment={name: None}, red=("keys",), answer=Answer("backup", "half-a-key", name, name))
      for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
    Setup(FAMILY, "no AWS keys at all", environment={"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, red=("list",),
          answer=Answer("backup", "no-keys", "key", "AWS_ACCESS_KEY_ID")),
    Setup(FAMILY, "a wrong secret key", environment={"AWS_SECRET_ACCESS_KEY": "wrong"}, red=("list",), answer=Answer("backup", "storage-refused", "403", "AWS")),
    Setup(FAMILY, "a bucket that does not exist", config=repository(url="s3://nobodys/agents"), red=("list",), answer=Answer("backup", "no-bucket", "nobodys", "repository.url")),
    Setup(FAMILY, "no right to write", after=_forbidding("^PUT|^POST"), red=("put",), answer=Answer("backup", "storage-refused", "403", "s3:PutObject")),
    Setup(FAMILY, "no right to delete, for backups and drills", after=_forbidding("^DELETE|^POST .*delete"), jobs=("backup", "drill")),
    Setup(FAMILY, "an endpoint where nobody listens", config=repository(endpoint_url="http://127.0.0.1:9"), red=("list",),
          answer=Answer("backup", "storage-unreachable", "127.0.0.1:9", "endpoint_url")),
    *(Setup(FAMILY, f"compression {name}", config=repository(compression=name)) for name in ("zstd", "brotli")),
    Setup(FAMILY, "compression none", "barman-cloud", config=repository(compression="none")),
    Setup(FAMILY, "compression lzma of wal-g", mistakes=repository(compression="lzma"), red=("config",), answer=Answer("backup", "config", "lzma", "dr.toml")),
    Setup(FAMILY, "wal-g's own WALG_COMPRESSION_METHOD=brotli in the environment", environment={"WALG_COMPRESSION_METHOD": "brotli"}),
    Setup(FAMILY, "encrypted with a libsodium key (variables)", environment=SODIUM, before=_key, dump=True),
    Setup(FAMILY, "encrypted with a libsodium key that is not there", environment=SODIUM, red=("tool-variables",),
          answer=Answer("backup", "tool-failed", "libsodium.key", "key")),
    Setup(FAMILY, "~/.walg.json with settings of its own", before=_walg_json(WALG_UPLOAD_CONCURRENCY="2", WALG_DOWNLOAD_CONCURRENCY="2")),
    Setup(FAMILY, "~/.walg.json that leads elsewhere", before=_walg_json(WALG_S3_PREFIX="s3://elsewhere/agents"), warns=("tool-variables",)),
    Setup(FAMILY, "~/.walg.json that is no JSON", before=lambda made: (made.user_home / ".walg.json").write_text("{") and None, red=("tool-variables",),
          answer=Answer("backup", "tool-failed", ".walg.json", ".walg.json")),
    Setup(FAMILY, "WALG_S3_PREFIX of another place in the environment", environment={"WALG_S3_PREFIX": "s3://elsewhere/agents"}, warns=("tool-variables",)),
    Setup(FAMILY, "delta backups (WALG_DELTA_MAX_STEPS=3), the second of them drilled", environment={"WALG_DELTA_MAX_STEPS": "3"}, backups=2),
    Setup(FAMILY, "delta backups (backup.delta_steps = 3), the second of them drilled", config={"backup": {"delta_steps": 3}}, backups=2),
    Setup(FAMILY, "WALG_PREVENT_WAL_OVERWRITE, WALG_USE_WAL_DELTA, WALG_UPLOAD_WAL_METADATA",
          environment={"WALG_PREVENT_WAL_OVERWRITE": "true", "WALG_USE_WAL_DELTA": "true", "WALG_UPLOAD_WAL_METADATA": "INDIVIDUAL"}),
    Setup(FAMILY, "WALG_DISK_RATE_LIMIT and WALG_NETWORK_RATE_LIMIT", environment={"WALG_DISK_RATE_LIMIT": "50000000", "WALG_NETWORK_RATE_LIMIT": "50000000"}),
    Setup(FAMILY, "WALG_WITHOUT_FILES_METADATA", environment={"WALG_WITHOUT_FILES_METADATA": "true"}),
    Setup(FAMILY, "a tool that is not installed", config=repository(binary="{home}/wal-g"), red=("tool",), answer=Answer("backup", "tool-missing", "wal-g", "repository.binary"),
          before=lambda made: made.primary.options.update(archive_command="true")),  # type: ignore[attr-defined]
)  # fmt: skip
