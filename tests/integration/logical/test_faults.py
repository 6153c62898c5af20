"""Dumps that cannot be taken or restored: the error names whose fault it is, and nothing that looks
good is left.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import boto3
import psutil
import psycopg
import pytest

from pgdrill.access import Access, Credentials
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify, Unreachable
from pgdrill.host.process import Runner, Stopped
from pgdrill.logical import cleanup as leftovers
from pgdrill.logical import manifest, scratch_cluster, take
from pgdrill.logical import pg_dump as client
from pgdrill.logical import store as keep
from pgdrill.logical.drill import Options, drill_dump
from pgdrill.logical.report import DumpReport
from pgdrill.logical.take import take_dump
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.workspace import Workspace
from tests.integration.conftest import Relay, processes_in
from tests.integration.logical.conftest import Source, pgserver, red

BIG = (
    "CREATE TABLE bulk AS SELECT i, md5(i::text) || md5((-i)::text) AS a, md5((i * 7)::text) ||"
    " md5((i * 3)::text) AS b FROM generate_series(1, 250000) i"
)


@pytest.fixture(scope="class")
def big(source_server: Source) -> Iterator[Source]:
    """With a table whose dump has several parts."""
    source_server.sql(BIG)
    yield source_server
    source_server.sql("DROP TABLE bulk")


@pytest.fixture
def relay(source: Source) -> Iterator[Relay]:
    made = Relay(source.endpoint_url)
    yield made
    made.close()


def uploads(source: Source) -> list[str]:
    """Multipart uploads that are neither completed nor aborted."""
    s3 = boto3.client(
        "s3",
        endpoint_url=source.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=source.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=source.environment["AWS_SECRET_ACCESS_KEY"],
    )
    try:
        found = s3.list_multipart_uploads(Bucket="backups").get("Uploads", [])
    except s3.exceptions.ClientError as error:
        assert "NoSuchUpload" in str(error), error  # how this store says that there is none
        return []
    return [
        one["Key"]
        for one in found
        if one["Key"].startswith(source.url.removeprefix("s3://backups/") + "/")
    ]


def nothing_to_see(source: Source) -> None:
    assert manifest.list_dumps(source.access) == []
    assert source.objects() == {}
    assert uploads(source) == []
    assert not list((source.cluster.state_directory / "dumping").glob("*"))
    time_left = time.monotonic() + 10
    while source.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgdrill'"
    ) != [(0,)]:
        assert time.monotonic() < time_left, "a session of the dump is left"


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from pgdrill.config import load
from pgdrill.access import Access
from pgdrill.logical import manifest, take, content
moment = sys.argv[2]
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
if moment == "before the manifest": manifest.write = die
if moment == "while reading": content.read_large_objects = die
def progress(what, done, total):
    if moment == "while sending" and done > 1_000_000: die()
take.take_dump(Access(load(Path(sys.argv[3])).cluster("agents")), progress=progress)
"""


class TestADumpThatDoesNotEnd:
    """Refused, stopped, killed: nothing of it looks good."""

    def test_a_store_that_refuses_in_the_middle_ends_the_dump_and_nothing_is_left(
        self, big: Source, source: Source, relay: Relay
    ) -> None:
        relay.misbehave(r"PUT /\S+agents\.dump\?partNumber=2", "403")
        through = Source(
            source.home, source.programs, source.url, relay.endpoint_url, source.environment
        )
        with pytest.raises(CouldNotVerify) as error:
            through.dump()
        assert error.value.problem.reason == "storage-refused", error.value
        assert relay.matched.is_set()
        nothing_to_see(source)

    def test_a_part_that_fails_once_is_sent_again_and_the_dump_is_whole(
        self, big: Source, source: Source, relay: Relay
    ) -> None:
        relay.misbehave(r"PUT /\S+agents\.dump\?partNumber=2", "503")
        through = Source(
            source.home, source.programs, source.url, relay.endpoint_url, source.environment
        )
        healing = threading.Thread(
            target=lambda: relay.matched.wait() and relay.misbehave("(?!)", "503")
        )
        healing.start()
        made = through.dump()
        healing.join()
        assert source.objects()[f"{made.dump_id}/agents.dump"] == made.databases[0].stored_bytes

    def test_a_stopped_dump_takes_back_what_it_had_sent(self, big: Source, source: Source) -> None:
        runner, begun = Runner(), threading.Event()

        def progress(what: str, done: int, total: int) -> None:
            if done > 1_000_000 and not begun.is_set():
                begun.set()
                threading.Thread(target=runner.stop).start()

        with pytest.raises(Stopped):
            take_dump(source.access, runner=runner, progress=progress)
        assert begun.is_set()
        nothing_to_see(source)

    def test_one_that_is_stopped_when_all_is_sent_is_taken_back_all_the_same(
        self, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runner = Runner()
        # the last thing before the manifest
        monkeypatch.setattr(take, "check_files", lambda *_: runner.stop())
        with pytest.raises(Stopped):
            take_dump(source.access, runner=runner)
        nothing_to_see(source)

    @pytest.mark.parametrize("moment", ["while reading", "while sending", "before the manifest"])
    def test_a_killed_dump_is_invisible_and_the_next_one_clears_it_away(
        self, big: Source, source: Source, tmp_path: Path, moment: str
    ) -> None:
        config = tmp_path / "dr.toml"
        config.write_text(
            f'[clusters.agents.server]\ndsn = "host={source.home} user=postgres"\ndata_directory ='
            f' "/nowhere"\nbin_dir = "{source.programs.folder}"\ndatabases ='
            f' ["agents"]\n[clusters.agents.repository]\nurl = "{source.url}"\nendpoint_url ='
            f' "{source.endpoint_url}"\n[clusters.agents.drill]\nwork_directory ='
            f' "{source.home}/work"\n'
        )
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(Path(__file__).parents[3]), moment, str(config)],
            env={**os.environ, **source.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert keep.listed(source.access) == []
        until = time.monotonic() + 10
        while processes_in(source.home / "work") or [
            p for p in psutil.process_iter(["name"]) if p.info["name"] == "pg_dump"
        ]:
            assert time.monotonic() < until, "pg_dump outlived the process that started it"
        left = source.objects()
        assert any(name.endswith("globals.sql") for name in left)
        assert any(name.endswith("agents.dump") for name in left) == (
            moment == "before the manifest"
        )
        assert bool(uploads(source)) == (moment == "while sending")
        leftovers.clear(source.access, keep="")  # too young: another host might be writing it
        assert source.objects() == left
        impatient = source.access.cluster.model_copy(
            update={
                "dump": source.access.cluster.dump.model_copy(update={"timeout_seconds": 0.000001})
            }
        )
        time.sleep(1.1)  # an id tells whole seconds
        leftovers.clear(Access(impatient, Credentials({}, source.environment)), keep="")
        assert source.objects() == {}
        assert uploads(source) == []


def test_a_truncated_archive_is_seen_before_a_server_reads_it(
    dumped: Source, source: Source
) -> None:
    made = source.dump()
    name = f"{made.dump_id}/agents.dump"
    content = source.access.dumps.read(name)
    assert content is not None
    for harm, found in (
        (content[:-100], f"{len(content) - 100} bytes"),
        (content[:-100] + bytes(100), "other content"),
    ):
        source.access.dumps.write(name, harm)
        report = source.drill()
        assert (report.verdict, report.reason) == ("failed", "restore: dump-damaged")
        assert report.restore.trouble
        assert report.restore.trouble.found == found
        assert report.timings.data_seconds is None
    source.access.dumps.delete(name)
    assert source.drill().reason == "restore: missing-part"
    assert [one.counts for one in keep.listed(source.access)] == [False]


def test_an_archive_that_is_damaged_as_its_manifest_says_fails_in_pg_restores_own_words(
    source: Source,
) -> None:
    """As if it had been damaged before it was sent."""
    made = source.dump()
    file = made.databases[0].files[0]
    content = bytearray(source.access.dumps.read(f"{made.dump_id}/{file.name}") or b"")
    middle = len(content) * 2 // 3
    content[middle : middle + 64] = bytes(64)
    source.access.dumps.write(f"{made.dump_id}/{file.name}", bytes(content))
    digest = hashlib.sha256(content).hexdigest()
    manifest.write(
        source.access, of_first(made, files=[file.model_copy(update={"sha256": digest})])
    )
    report = source.drill()
    assert report.verdict == "failed"
    assert report.restore.trouble
    assert report.restore.trouble.reason in ("dump-damaged", "restore-errors")
    assert "pg_restore" in report.restore.trouble.found


def test_what_pg_restore_skips_and_goes_on_from_is_no_restore(source: Source) -> None:
    """A constraint that finds its table by the search path: production checks it, a restore cannot,
    and its rows are left out.
    """
    source.sql(
        "CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM orders"
        " WHERE id = $1)'"
    )
    source.sql("CREATE TABLE notes (n int CHECK (known(n))); INSERT INTO notes VALUES (1)")
    try:
        source.dump()
    finally:
        source.sql("DROP TABLE notes; DROP FUNCTION known")
    report = source.drill()
    assert (report.verdict, report.reason) == ("failed", "restore: restore-errors")
    assert report.restore.trouble
    assert 'relation "orders" does not exist' in report.restore.trouble.found
    assert not report.results, "nothing is asked of half a restore"


def of_first(made: manifest.Manifest, **changes: object) -> manifest.Manifest:
    """The manifest, which says something else of its first database."""
    first, *others = made.databases
    return made.model_copy(update={"databases": [first.model_copy(update=changes), *others]})


def test_a_manifest_of_another_cluster_is_refused(source: Source) -> None:
    made = source.dump()
    manifest.write(source.access, made.model_copy(update={"cluster": "sales"}))
    with pytest.raises(BackupFault, match="a dump of cluster sales"):
        source.drill()
    other = made.databases[0].files[0].model_copy(update={"name": "../../etc/passwd"})
    manifest.write(source.access, of_first(made, files=[other]))
    with pytest.raises(BackupFault, match="tampered"):
        source.drill()


def test_a_full_disk_while_restoring_is_the_hosts_fault_and_named(
    dumped: Source, tmp_path: Path
) -> None:
    """A real small file system in a mount namespace of its own."""
    work = tmp_path / "small"
    work.mkdir()
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "import os, pickle, shutil\n"
        "from pgdrill.logical.drill import drill_dump, Options\n"
        "from pgdrill.logical import scratch_cluster\n"
        # what follows is seen by the server before anybody looks
        "scratch_cluster.check_room = lambda *_: None\n"
        "make = scratch_cluster.make_cluster\n"
        "def make_and_fill(access, workspace, manifest, fence):\n"
        "    server = make(access, workspace, manifest, fence)\n"
        "    free = shutil.disk_usage(workspace.directory).free\n"
        "    with open(workspace.directory / 'filling', 'wb') as file:"
        " os.posix_fallocate(file.fileno(), 0, free - 4_000_000)\n"
        "    return server\n"
        "scratch_cluster.make_cluster = make_and_fill\n"
        "access = pickle.loads(bytes.fromhex(sys.stdin.read()))\n"
        "print(drill_dump(access, Options()).model_dump_json())\n"
    )
    access = dumped.access
    drill = access.cluster.drill.model_copy(update={"work_directory": work, "keep_free_bytes": 1})
    access = Access(access.cluster.model_copy(update={"drill": drill}), access.credentials)
    # An ordinary user is root for the mount, and himself again for the drill.
    uid, gid = os.getuid(), os.getgid()
    around, again = (
        ((), ())
        if uid == 0
        else (
            ("--user", "--map-root-user"),
            ("unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", "--"),
        )
    )
    mounted = f'mount -t tmpfs -o size=200m,mode=0700 none {work} && exec "$@"'
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            *around,
            "sh",
            "-c",
            mounted,
            "sh",
            *again,
            sys.executable,
            "-c",
            code,
            str(Path(__file__).parents[3]),
        ],
        input=pickle.dumps(access).hex(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "Operation not permitted" in done.stderr or "permission denied" in done.stderr.lower():
        pytest.skip("no mount namespaces here")
    assert done.stdout, done.stderr
    report = DumpReport.model_validate_json(done.stdout.splitlines()[-1])
    assert report.verdict == "could not verify"
    assert report.restore.trouble
    assert report.restore.trouble.reason == "no-space", report.restore.trouble
    assert "No space left on device" in report.restore.trouble.found
    assert report.cleanup.status == "ok"


def test_too_little_room_is_said_before_anything_is_fetched(
    dumped: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = manifest.choose(dumped.access, "LATEST")
    huge = of_first(made, size_bytes=10**15)
    with pytest.raises(CouldNotVerify, match=r"\d [MG]B free"):
        scratch_cluster.room_for(Workspace(dumped.home), huge, 0)
    monkeypatch.setattr(scratch_cluster, "ROOM", 10**9)
    report = dumped.drill()
    assert (report.reason, report.timings.download_seconds) == ("restore: no-space", None)


@contextmanager
def asking_for_passwords(source: Source) -> Iterator[None]:
    hba = source.home / "data" / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    source.sql("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        hba.write_text(before)
        source.sql("SELECT pg_reload_conf()")


def test_a_wrong_password_and_missing_rights_are_told_apart(source: Source) -> None:
    with asking_for_passwords(source):
        source.more = {"dump": {"dsn": f"host={source.home} user=app dbname=agents"}}
        for password, expected in (
            ("wrong-password-word", "authentication failed"),
            ("app-secret-word", "permission denied"),
        ):
            access = Access(
                source.cluster,
                Credentials({}, source.environment, dump={"user": "app", "password": password}),
            )
            with pytest.raises(CouldNotVerify, match=expected) as error:
                take_dump(access)
            assert password not in str(error.value)
    nothing_to_see(source)


def test_a_client_older_than_the_server_is_named_before_anything_is_read(source: Source) -> None:
    source.more = {"server": {"bin_dir": str(pgserver(16).folder)}}
    with pytest.raises(ConfigError, match="PostgreSQL 16; expected 18 or newer"):
        source.dump()


def test_a_table_that_is_being_altered_ends_the_dump_after_the_configured_wait(
    source: Source,
) -> None:
    source.more = {"dump": {"lock_wait_seconds": 0.2}}
    connection = psycopg.connect(source.server.conninfo("agents"))
    try:
        connection.execute("LOCK TABLE wide IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unreachable, match="lock timeout"):
            source.dump()
    finally:
        connection.close()
    nothing_to_see(source)


def test_a_compression_that_this_pg_dump_was_built_without_is_refused_by_name(
    source: Source,
) -> None:
    source.more = {"dump": {"compression": "zstd"}}
    with pytest.raises(ConfigError, match="zstd"):
        source.dump()
    assert client.compression_for(source.programs, "") == "gzip:1"


class TestAStandby:
    """Dumps from a streaming standby."""

    @pytest.fixture(scope="class")
    @classmethod
    def standby(cls, source_server: Source) -> Iterator[LocalServer]:
        folder = source_server.home / "standby"
        subprocess.run(
            [
                *as_ordinary_user(),
                source_server.programs.path("pg_basebackup"),
                "-D",
                str(folder),
                "-h",
                str(source_server.home),
                "-U",
                "postgres",
                "--write-recovery-conf",
                "--checkpoint=fast",
            ],
            check=True,
            capture_output=True,
        )
        made = LocalServer(
            source_server.programs,
            folder,
            source_server.home / "sb",
            source_server.home / "sb.log",
            options={"listen_addresses": "", "fsync": "off"},
        )
        try:
            made.start()
            yield made
        finally:
            made.stop()

    def test_its_conflict_settings_are_checked_first(
        self, source: Source, standby: LocalServer
    ) -> None:
        source.more = {"dump": {"dsn": f"host={standby.socket_directory} user=postgres"}}
        with pytest.raises(ConfigError, match="hot_standby_feedback"):
            source.dump()

    def test_it_gives_the_same_dump_without_unlogged_rows(
        self, source: Source, standby: LocalServer
    ) -> None:
        with standby.connect() as connection:
            connection.execute("ALTER SYSTEM SET hot_standby_feedback = on")
            connection.execute("SELECT pg_reload_conf()")
        source.more = {"dump": {"dsn": f"host={standby.socket_directory} user=postgres"}}
        made = source.dump()
        assert made.from_standby
        assert "public.scratch" in made.databases[0].not_dumped
        report = source.drill(families=("vectors",))
        assert report.verdict == "passed", red(report)


def test_a_killed_restore_is_cleared_away_by_the_next_one(dumped: Source) -> None:
    runner = Runner()

    def progress(what: str, done: int, total: int) -> None:
        if what.startswith("restore"):
            threading.Thread(target=runner.stop).start()

    with pytest.raises(Stopped):
        drill_dump(dumped.access, Options(), runner=runner, progress=progress)
    assert not processes_in(dumped.cluster.drill.work_directory)
    last = keep.listed(dumped.access)[-1].last
    assert last
    assert (last.verdict, last.cleanup.status) == ("could not verify", "ok")
    assert last.started_at < datetime.now(UTC)
