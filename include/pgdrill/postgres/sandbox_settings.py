"""The configuration of a restored cluster: it can be asked questions and can do nothing else.

A restored data directory brings production's configuration with it, which would archive into
production's repository, connect to production, run its scheduled jobs and listen to the network.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgdrill.host.tuning import memory_bytes
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES

# Settings that decide how a search is planned and how well it answers. Production's file with them
# may be in no backup (Debian keeps it outside the data directory), and a restored cluster is to be
# judged as the application would find it.
PLANNING = re.compile(
    r"enable_\w+|\w+_cost|(hnsw|ivfflat)\.\w+|(from|join)_collapse_limit|geqo\w*|jit\w*|work_mem|hash_mem_multiplier"
    r"|effective_cache_size|effective_io_concurrency|default_statistics_target|cursor_tuple_fraction|constraint_exclusion"
    r"|plan_cache_mode|max_parallel_workers_per_gather|parallel_leader_participation|min_parallel_\w+_scan_size"
)
# Settings for replay alone. Afterwards production's own are put in their place.
REPLAYING = {
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "maintenance_work_mem": "256MB",
    "recovery_prefetch": "try",
}
MIN_WAL_MB = 80  # PostgreSQL's default, which is too little for segments that are larger than usual
# A server wants min_wal_size and max_wal_size to have room for so many, or it does not start.
FEWEST_SEGMENTS = 2
AUTO_CONF_ASIDE = "postgresql.auto.conf.production"  # among the configuration files
HBA = (
    "# Only the owner of the private socket folder (mode 0700) gets this far.\nlocal all all"
    " trust\n"
)


def planning(production: Mapping[str, str]) -> dict[str, str]:
    """Return production's settings for planning and searching.

    They are chosen out of all that somebody set there.
    """
    return {name: value for name, value in production.items() if PLANNING.fullmatch(name)}


def shared_buffers_mb() -> int:
    """Return an eighth of the memory, between 128 MB and 8 GB: the drill host has other work."""
    return max(128, min(8192, memory_bytes() // 8 // 2**20))


@dataclass(frozen=True, slots=True)
class Recovery:
    """Where WAL comes from, and how far along which timeline it is replayed."""

    restore_command: str
    target: Mapping[str, str]
    timeline: str


def settings(
    *,
    recovery: Recovery,
    limits: Mapping[str, int],
    preload: str,
    planned_with: Mapping[str, str],
    fast: bool,
    alone_on_disk: bool = True,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> dict[str, str]:
    """Return every setting of the restored server that is not PostgreSQL's default.

    ``alone_on_disk``: production's files lie on another one, so that all that waits to be written
    there is the drill's own.
    """
    return {
        # harmless
        "archive_mode": "off",
        "archive_command": "",
        "restore_command": recovery.restore_command,
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "ssl": "off",
        "primary_conninfo": "",
        "primary_slot_name": "",
        # a folder of its own, not /dev/shm, where other servers' memory lies
        "dynamic_shared_memory_type": "mmap",
        "max_logical_replication_workers": "0",
        "shared_preload_libraries": preload,
        "autovacuum": "off",
        "pg_prewarm.autoprewarm": "off",
        # like production
        **{name: str(value) for name, value in limits.items()},
        **planned_with,
        # No connection before promotion: answers from a server that has not reached its target
        # would be stale.
        **recovery.target,
        "recovery_target_timeline": recovery.timeline,
        "hot_standby": "off",
        # swift
        "shared_buffers": f"{shared_buffers_mb()}MB",
        **REPLAYING,
        "min_wal_size": f"{max(MIN_WAL_MB, FEWEST_SEGMENTS * segment_bytes // 2**20)}MB",
        # With fsync, opening a million files one by one takes minutes, but it leaves alone what
        # production has not written yet.
        "recovery_init_sync_method": "syncfs" if alone_on_disk else "fsync",
        **(
            {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"} if fast else {}
        ),
        # to be read by people
        "logging_collector": "off",
        "log_destination": "stderr",
        "log_min_messages": "info",
        "log_line_prefix": "%m [%p] ",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
    }


def replayed(production: Mapping[str, str]) -> dict[str, str]:
    """Return production's own of the settings that replay has others for."""
    return {name: value for name, value in production.items() if name in REPLAYING}


def end_replaying(config: Path, production: Mapping[str, str]) -> None:
    """Put production's settings (or PostgreSQL's defaults) in place of replay's.

    The server has to be told to reload.
    """
    kept = [
        line
        for line in config.read_text().splitlines(keepends=True)
        if line.partition(" ")[0] not in REPLAYING
    ]
    config.write_text("".join([*kept, *(_line(*one) for one in production.items())]))


def _line(name: str, value: str) -> str:
    return f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n"


def write(folder: Path, data_directory: Path, values: Mapping[str, str]) -> dict[str, str]:
    """Write the files into ``folder``, and take production's overrides away.

    Returns the options to start with.
    """
    config, hba, ident = (
        folder / name for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")
    )
    config.write_text("".join(_line(*one) for one in values.items()))
    hba.write_text(HBA)
    ident.write_text("")
    auto = data_directory / "postgresql.auto.conf"  # read whatever config_file says, and stronger
    if auto.exists():
        shutil.move(auto, folder / AUTO_CONF_ASIDE)
    for signal_file in ("standby.signal", "recovery.signal"):
        (data_directory / signal_file).unlink(missing_ok=True)
    (data_directory / "recovery.signal").touch(exist_ok=False)
    for file in (folder, config, hba, ident):  # the restored server may be another user's
        file.chmod(0o755 if file.is_dir() else 0o644)
    return {
        "config_file": str(config),
        "hba_file": str(hba),
        "ident_file": str(ident),
        "data_directory": str(data_directory),
    }
