"""What the watch of many clusters takes of processor and memory: ``python -m bench.health``.

One real server stands for all of them, each with a store and an archive of its own (a folder);
every round the archives grow by as many segments as asked for. The service runs as a process of its
own. Processor time is the kernel's count of it, so a busy machine changes little.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from pgdrill.postgres.server import LocalServer
from pgdrill_demo.stack import binaries

CLUSTER = """
[clusters.c{n}.server]
dsn = "host={socket} port=5432 user=postgres dbname=postgres"
data_directory = "{home}/data"
[clusters.c{n}.repository]
url = "file://{home}/stores/c{n}"
[clusters.c{n}.drill]
work_directory = "{home}/work"
heartbeat = "public.pgdrill_heartbeat.at"
heartbeat_seconds = 5
"""
HEARTBEATS = "CREATE TABLE pgdrill_heartbeat (at timestamptz NOT NULL DEFAULT clock_timestamp())"


def main() -> None:
    """Start, let it settle, count for a while, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=50)
    parser.add_argument("--segments", type=int, default=1000, help="new at each round")
    parser.add_argument("--seconds", type=float, default=300, help="counted, after the first looks")
    parser.add_argument("--patience", type=float, default=600, help="seconds for the first looks")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    server = LocalServer(
        binaries(), home / "data", home / "s", home / "log",
        options={"listen_addresses": "", "fsync": "off", "max_connections": "400"},
    )  # fmt: skip
    try:
        _make(server, home, asked.clusters)
        _measure(home, asked)
    finally:
        server.stop(to_be_removed=True)
        shutil.rmtree(home)


def _make(server: LocalServer, home: Path, clusters: int) -> None:
    from pgdrill.postgres.binaries import as_ordinary_user

    words = [*as_ordinary_user(), server.binaries.path("initdb"), "-D", server.data_directory]
    words += ["-U", "postgres", "--auth=trust", "--no-sync", "--locale=C"]
    subprocess.run(words, check=True, capture_output=True)
    server.start()
    with server.connect() as connection:
        connection.execute(HEARTBEATS)
    text = f'[watch]\nlisten = ""\ntextfile = "{home}/pgdrill.prom"\n'
    for n in range(clusters):
        (home / f"stores/c{n}/wal_005").mkdir(parents=True)
        text += CLUSTER.format(n=n, socket=server.socket_directory, home=home)
    (home / "dr.toml").write_text(text)


def _grow(home: Path, clusters: int, first: int, segments: int) -> None:
    for n in range(clusters):
        for number in range(first, first + segments):
            name = f"00000001{number // 256:08X}{number % 256:08X}.lz4"
            (home / f"stores/c{n}/wal_005" / name).touch()


def _measure(home: Path, asked: argparse.Namespace) -> None:
    _grow(home, asked.clusters, 1, asked.segments)
    words = [sys.executable, "-m", "pgdrill", "--config", str(home / "dr.toml"), "watch"]
    thrifty = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}
    with (home / "watch.log").open("wb") as log:
        process = subprocess.Popen(words, env={**os.environ, **thrifty}, stderr=log)
    try:
        watched = psutil.Process(process.pid)
        ends = time.monotonic() + asked.patience
        while min(_looks(home), default=0) < 2 or len(_looks(home)) < asked.clusters:
            assert time.monotonic() < ends, (home / "watch.log").read_text()[-2000:]
            time.sleep(1)
        before, began, looked = _cpu(watched), time.monotonic(), sum(_looks(home))
        _grow(home, asked.clusters, 1 + asked.segments, asked.segments)
        time.sleep(asked.seconds)
        cpu, wall = _cpu(watched) - before, time.monotonic() - began
        looks = sum(_looks(home)) - looked
        memory = watched.memory_full_info()
        print(
            f"{asked.clusters} clusters, {looks:.0f} looks in {wall:.0f} s:"
            f" {100 * cpu / wall:.1f} % of a core,"
            f" {1000 * cpu / max(looks, 1):.1f} ms of processor a look (with heartbeats),"
            f" {memory.rss / 2**20:.0f} MiB resident, of which its own {memory.uss / 2**20:.0f} MiB"
        )
    finally:
        process.terminate()
        process.wait()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _looks(home: Path) -> list[float]:
    file = home / "pgdrill.prom"
    text = file.read_text() if file.exists() else ""
    return [float(one) for one in re.findall(r"^pgdrill_looks_total\{.*\} (\S+)$", text, re.M)]


if __name__ == "__main__":
    main()
