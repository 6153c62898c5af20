"""A dump is restored by nobody whose rights an owner's function could use: no canary is ever
seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgdrill.recovery.workspace import Workspace
from tests.integration.logical.conftest import Source, explained, red

HOME = "strange"
# What an owner's function does where it runs with a superuser's rights: a program on the drill
# host.
FUNCTIONS = """
CREATE EXTENSION vector;
CREATE SCHEMA mine AUTHORIZATION mallory; GRANT USAGE, CREATE ON SCHEMA public TO mallory;
CREATE TABLE plain (id int PRIMARY KEY, v vector(4)); GRANT SELECT ON plain TO mallory;
INSERT INTO plain SELECT i, ARRAY[i, i % 7, i % 5, 1]::real[]::vector
    FROM generate_series(1, 300) i;
CREATE INDEX plain_hnsw ON plain USING hnsw (v vector_l2_ops);
SET SESSION AUTHORIZATION mallory; SET search_path = mine, public;
CREATE FUNCTION act(text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE rank text; before text := current_setting('role');
BEGIN
    FOR rank IN
        SELECT rolname FROM pg_roles
        WHERE (rolsuper OR rolname = 'pg_execute_server_program')
            AND pg_has_role(current_user, oid, 'MEMBER')
    LOOP
        FOREACH rank IN ARRAY ARRAY[rank, before] LOOP  -- as what it may become, and as it is
            BEGIN
                PERFORM set_config('role', rank, false), mine.leave($1);
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END LOOP;
        PERFORM set_config('role', before, false);
    END LOOP;
    BEGIN
        PERFORM set_config('role', 'none', false),
            set_config('session_authorization', 'default', false), mine.leave('reset-' || $1);
        RAISE division_by_zero;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
CREATE FUNCTION leave(text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'touch canary-' || $1);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    EXECUTE format('COPY (SELECT 1) TO %L', current_setting('data_directory') || '/canary-' || $1);
END $$;
CREATE FUNCTION peek(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.act($1); RETURN true; END $$;
CREATE FUNCTION number(int, text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.act($2); RETURN $1; END $$;
CREATE FUNCTION same(int, int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.act('operator'); RETURN $1 = $2; END $$;
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = same);
CREATE DOMAIN checked AS int CHECK (peek('domain'));
CREATE DOMAIN bounded AS text DEFAULT number(1, 'domain-default')::text CHECK (peek('bound'));
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.act('trigger'); RETURN NEW; END $$;
CREATE FUNCTION configured() RETURNS int LANGUAGE sql SET search_path = mine AS 'SELECT 1';
"""
# One table a kind, owned by the attacker, and the same again owned by a superuser.
TABLES = {
    "index_predicate": (
        "CREATE INDEX ON {t} USING hnsw (v vector_l2_ops) WHERE mine.peek('predicate-{w}')"
    ),
    "index_folded": "CREATE INDEX ON {t} (id) WHERE mine.peek('folded-{w}')",
    "index_expression": "CREATE INDEX ON {t} ((id + mine.number(1, 'expression-{w}')))",
    "index_hash": "CREATE INDEX ON {t} USING hash ((id + mine.number(1, 'hash-{w}')))",
    "index_operator": "CREATE INDEX ON {t} (id) WHERE id OPERATOR(mine.===) id",
    "unique_key": (
        "ALTER TABLE {t} ADD EXCLUDE USING btree ((mine.number(id, 'exclude-{w}')) WITH =)"
    ),
    "checks": "ALTER TABLE {t} ADD CHECK (mine.peek('check-{w}'))",
    "checks_later": "ALTER TABLE {t} ADD CONSTRAINT later CHECK (mine.peek('later-{w}')) NOT VALID",
    "generated": (
        "ALTER TABLE {t} ADD g int GENERATED ALWAYS AS (id + mine.number(4, 'generated-{w}'))"
        " STORED"
    ),
    "generated_folded": (
        "ALTER TABLE {t} ADD g int GENERATED ALWAYS AS (mine.number(4, 'generated-folded-{w}'))"
        " STORED"
    ),
    "defaults": "ALTER TABLE {t} ALTER id SET DEFAULT mine.number(5, 'default-{w}')",
    "domains": "ALTER TABLE {t} ADD d mine.checked; UPDATE {t} SET d = 1",
    "statistics": (
        "CREATE STATISTICS mine.stat_{w} ON (id + mine.number(3, 'statistics-{w}')), note FROM {t};"
        " ANALYZE {t}"
    ),
    "policies": (
        "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON {t} USING"
        " (mine.peek('policy-{w}'))"
    ),
    "triggers": (
        "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON {t} FOR EACH ROW EXECUTE FUNCTION mine.fire();"
        " ALTER TABLE {t} ENABLE ALWAYS TRIGGER t"
    ),
    "rules": "CREATE RULE r AS ON INSERT TO {t} DO ALSO SELECT mine.peek('rule-{w}')",
    "referred": (
        "ALTER TABLE {t} ADD UNIQUE (id); CREATE INDEX ON {t} (note) WHERE"
        " mine.peek('referred-{w}'); CREATE TABLE {t2} (id int REFERENCES {t} (id)); INSERT INTO"
        " {t2} SELECT id FROM {t}; CREATE INDEX ON {t2} (id) WHERE mine.peek('referring-{w}')"
    ),
}
MORE = """
CREATE TABLE mine.parted_{w} (id int, k mine.bounded)
    PARTITION BY RANGE ((id + mine.number(6, 'partition-{w}')));
CREATE TABLE mine.part_{w} PARTITION OF mine.parted_{w} FOR VALUES FROM (0) TO (1000);
INSERT INTO mine.part_{w} VALUES (1, 'a');
CREATE INDEX ON mine.parted_{w} (id) WHERE mine.peek('partitioned-index-{w}');
CREATE TABLE mine.listed_{w} (k mine.bounded) PARTITION BY LIST (k);
CREATE TABLE mine.listed_a_{w} PARTITION OF mine.listed_{w} FOR VALUES IN ('a');
CREATE MATERIALIZED VIEW mine.seen_{w} AS
    SELECT id, mine.number(7, 'matview-{w}') AS n FROM plain WHERE mine.peek('matview-where-{w}');
CREATE VIEW mine.look_{w} AS SELECT mine.number(8, 'view-{w}') AS n;
"""
# By a superuser of production, each of which would run on our own connections.
EVENTS = """
CREATE FUNCTION enters() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.act('login'); END $$;
CREATE EVENT TRIGGER enters ON login EXECUTE FUNCTION enters();
ALTER EVENT TRIGGER enters ENABLE ALWAYS;
CREATE EVENT TRIGGER alters ON ddl_command_end EXECUTE FUNCTION enters();
ALTER EVENT TRIGGER alters ENABLE ALWAYS;
CREATE PUBLICATION everything FOR ALL TABLES;
"""


def canaries(data_directory: Path) -> list[str]:
    """What was left in a server's own folder, which no fence closes to it."""
    return sorted(file.name for file in data_directory.glob("canary-*"))


@pytest.fixture
def strange(source_server: Source) -> Iterator[Source]:
    """A database in which every kind of definition holds the attacker's function, made quietly on
    production.
    """
    source_server.sql(
        "CREATE ROLE mallory LOGIN; CREATE ROLE chief SUPERUSER LOGIN; GRANT"
        " pg_execute_server_program TO mallory",
        database="postgres",
    )
    source_server.sql(f"CREATE DATABASE {HOME}", database="postgres")
    source_server.sql(
        f"ALTER DATABASE {HOME} SET event_triggers = on; ALTER DATABASE {HOME} SET"
        " constraint_exclusion = on",
        database="postgres",
    )
    made = [FUNCTIONS, "SET search_path = public"]
    for who in ("mallory", "chief"):
        made.append(f"SET SESSION AUTHORIZATION {who}")
        for name, statement in TABLES.items():
            table = f"mine.{name}_{who}"
            made += [
                f"CREATE TABLE {table} (id int, note text, v vector(4))",
                (
                    f"INSERT INTO {table} SELECT i, 'row', ARRAY[i, i % 7, i % 5,"
                    " 1]::real[]::vector FROM generate_series(1, 20) i"
                ),
            ]
            made.append(
                statement.replace("{t}", table).replace("{t2}", f"{table}_2").replace("{w}", who)
            )
        made.append(MORE.replace("{w}", who))
    made += ["RESET SESSION AUTHORIZATION", EVENTS]
    with psycopg.connect(source_server.server.conninfo(HOME), autocommit=True) as connection:
        for text in made:
            connection.execute(text)
    try:
        assert canaries(source_server.home / "data"), "the attack works where a superuser evaluates"
        yield source_server.with_(server={"databases": [HOME]})
    finally:
        for file in (source_server.home / "data").glob("canary-*"):
            file.unlink()
        source_server.sql(f"DROP DATABASE {HOME} WITH (FORCE)", database="postgres")
        source_server.sql("DROP ROLE mallory; DROP ROLE chief", database="postgres")


def test_a_restored_dump_runs_no_owners_function_with_a_superusers_rights(strange: Source) -> None:
    strange.dump()
    report = strange.drill(families=("vectors", "search", "integrity"), keep=True)
    workspace = Workspace.of(strange.access, report.drill_id)
    try:
        assert canaries(workspace.data_directory) == []
        assert report.restore.status == "ok", explained(report)
        assert red(report) == {}, explained(report)
        # It came back as it was: superusers are that again, and what only they may own is theirs.
        with psycopg.connect(
            workspace.server(strange.access).conninfo(HOME, options="-c event_triggers=off"),
            autocommit=True,
        ) as connection:
            again = connection.execute(
                "SELECT rolname FROM pg_roles WHERE rolsuper AND rolname !~ '^pgdrill_' ORDER BY 1"
            ).fetchall()
            triggers = connection.execute("SELECT count(*) FROM pg_event_trigger").fetchone()
            publications = connection.execute(
                "SELECT count(*) FROM pg_publication WHERE puballtables"
            ).fetchone()
        assert (again, triggers, publications) == ([("chief",), ("postgres",)], (2,), (1,))
    finally:
        workspace.destroy()
