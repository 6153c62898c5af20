"""Whoever owns a table on production learns nothing by what pgdrill reads of it: owners'
expressions run with nobody's rights but theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.baseline import reading, settle, take_baseline
from pgdrill.baseline.heartbeat import beat
from pgdrill.checks.copied import answer
from pgdrill.drill import drill
from pgdrill.errors import CouldNotVerify
from pgdrill.logical.take import take_dump
from pgdrill.postgres.guarded import Guard
from pgdrill.recovery.planning import read_heartbeats
from pgdrill_demo.stack import Stack

HOME = "tenants"
SECRET = "another-tenants-diagnosis"

# A role without rights. Its functions are IMMUTABLE in name only: they perform one that tells what
# the reader may read.
ATTACKER = f"""
CREATE EXTENSION vector;
CREATE TABLE secret (body text); INSERT INTO secret VALUES ('{SECRET}');
CREATE SCHEMA mine AUTHORIZATION mallory; GRANT USAGE, CREATE ON SCHEMA public TO mallory;
SET SESSION AUTHORIZATION mallory; SET search_path = mine, public;
CREATE TABLE heard (what text); GRANT INSERT ON heard TO PUBLIC;
GRANT USAGE ON SCHEMA mine TO PUBLIC;
CREATE FUNCTION tell(text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE body text;
BEGIN
    IF current_user <> 'mallory' THEN
        SELECT s.body INTO body FROM public.secret s;
        PERFORM pg_notify('canary', concat_ws(' ', current_user, $1, body));
        BEGIN
            INSERT INTO mine.heard VALUES (concat_ws(' ', $1, body));
        EXCEPTION WHEN read_only_sql_transaction THEN NULL;
        END;
    END IF;
END $$;
CREATE FUNCTION peek(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell($1); RETURN true; END $$;
CREATE FUNCTION number(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell('number'); RETURN $1; END $$;
CREATE FUNCTION same(int, int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell('same'); RETURN $1 = $2; END $$;
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = same);
CREATE DOMAIN checked AS int CHECK (peek('domain'));
CREATE FUNCTION told(text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell($1); RETURN 'a'; END $$;
CREATE DOMAIN rewrites AS vector(4) CHECK (
    ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, mine.told(''sql as text'')::tsquery')
        IS NOT NULL);
CREATE DOMAIN asks AS vector(4) CHECK (pg_input_is_valid('1', 'mine.checked'));
CREATE DOMAIN notifies AS vector(4)
    CHECK (pg_notify('canary', 'notified by ' || current_user)::text = '');
CREATE DOMAIN sets AS int CHECK (set_config('search_path', 'mine, pg_catalog', false) IS NOT NULL);
CREATE DOMAIN rewritten_in AS rewrites;
CREATE TYPE with_rewrites AS (a int, b rewrites);
CREATE DOMAIN four AS vector(4); CREATE DOMAIN any_four AS vector;
CREATE DOMAIN halves AS halfvec(4); CREATE DOMAIN late AS date CHECK (VALUE < now());
CREATE TYPE pair AS (a int, b checked);
CREATE TYPE cast_away AS ENUM ('x', 'y');
CREATE FUNCTION to_words(cast_away) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell('cast'); RETURN 'x'; END $$;
CREATE CAST (cast_away AS text) WITH FUNCTION to_words(cast_away);
"""
# Every place an owner's function can stand in. `note` and `v` are what is read; `{t}` is the table.
KINDS = {
    "index_predicate": "CREATE INDEX ON {t} USING hnsw (v vector_l2_ops) WHERE peek('predicate')",
    "folded_predicate": "CREATE INDEX ON {t} (id) WHERE peek('folded')",
    "index_expression": "CREATE INDEX ON {t} ((id + number(1)))",
    "hash_expression": "CREATE INDEX ON {t} USING hash ((id + number(2)))",
    "vector_expression": (
        "CREATE FUNCTION twice(vector) RETURNS vector IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM mine.tell('twice'); RETURN $1; END $$; CREATE INDEX ON {t} USING hnsw"
        " ((twice(v)::vector(4)) vector_l2_ops)"
    ),
    "operator": "CREATE INDEX ON {t} (id) WHERE 1 OPERATOR(mine.===) 1",
    "check": "ALTER TABLE {t} ADD CHECK (peek('check'))",
    "statistics": "CREATE STATISTICS on_{t} ON (id + number(3)), note FROM {t}",
    "generated": "ALTER TABLE {t} ADD g int GENERATED ALWAYS AS (id + number(4)) STORED",
    "policy": (
        "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON {t} USING (peek('policy'))"
    ),
    "domain": "ALTER TABLE {t} ADD d checked",
    "composite": "ALTER TABLE {t} ADD d pair[]",
    "cast": "ALTER TABLE {t} ADD d cast_away; UPDATE {t} SET d = 'x'",
    # PostgreSQL's own functions that run SQL, or act: in a domain that an index casts to they need
    # not be IMMUTABLE.
    "sql_as_text": "CREATE INDEX ON {t} USING hnsw ((v::rewrites::vector(4)) vector_l2_ops)",
    "sql_in_predicate": (
        "CREATE INDEX ON {t} USING hnsw (v vector_l2_ops) WHERE (v::rewritten_in IS NOT NULL)"
    ),
    "sql_in_array": (
        "CREATE INDEX ON {t} USING hnsw (((ARRAY[v]::rewrites[])[1]::vector(4)) vector_l2_ops)"
    ),
    "sql_in_row": (
        "CREATE INDEX ON {t} USING hnsw (v vector_l2_ops) WHERE (ROW(1, v)::with_rewrites).a = 1"
    ),
    "type_as_text": "CREATE INDEX ON {t} USING hnsw ((v::asks::vector(4)) vector_l2_ops)",
    "notify": "CREATE INDEX ON {t} USING hnsw ((v::notifies::vector(4)) vector_l2_ops)",
    "setting": "CREATE INDEX ON {t} USING hnsw (v vector_l2_ops) WHERE id::sets > 0",
    # Asked anew in words, the definition would find the namesake that is made for the domain.
    "namesake": (
        "ALTER TABLE {t} ALTER v TYPE four; CREATE INDEX ON {t} USING hnsw"
        " ((l2_normalize(v)::vector(4)) vector_l2_ops)"
    ),
    "operators_namesake": (
        "ALTER TABLE {t} ALTER v TYPE four; CREATE INDEX ON {t} USING hnsw ((v::vector(4))"
        " vector_l2_ops) WHERE (v <-> '[1,1,1,1]'::vector) >= 0"
    ),
}
# Columns of domains, for which somebody's functions of pgvector's names fit better than pgvector's:
# they are searched all the same.
DOMAINS = {
    "of_a_domain": (
        "ALTER TABLE {t} ALTER v TYPE four; CREATE INDEX ON {t} USING hnsw ((v::vector(4))"
        " vector_l2_ops)"
    ),
    "by_cosine": (
        "ALTER TABLE {t} ALTER v TYPE four; CREATE INDEX ON {t} USING hnsw ((v::vector(4))"
        " vector_cosine_ops)"
    ),
    "of_any_dimensions": "ALTER TABLE {t} ALTER v TYPE any_four",
    "of_halves": (
        "ALTER TABLE {t} ALTER v TYPE halves USING v::halfvec(4); CREATE INDEX ON {t} USING hnsw"
        " ((v::halfvec(4)) halfvec_l2_ops)"
    ),
    "with_late": (
        "ALTER TABLE {t} ADD d late; CREATE INDEX ON {t} (d); CREATE INDEX ON {t} USING hnsw (v"
        " vector_l2_ops)"
    ),
}
NAMESAKES = "".join(
    f"CREATE FUNCTION public.{name}(mine.{kind}) RETURNS {gives} LANGUAGE plpgsql AS $$ BEGIN"
    f" PERFORM mine.tell('{name}'); RETURN {value}; END $$;"
    for kind, own in (("four", "vector"), ("any_four", "vector"), ("halves", "halfvec"))
    for name, gives, value in (
        (f"{own}_send", "bytea", "''::bytea"),
        (f"{own}_dims", "int", "3"),
        ("l2_normalize", own, f"$1::{own}"),
    )
) + "".join(
    f"CREATE FUNCTION public.far_{number}(mine.{kind}, {own}) RETURNS float8 LANGUAGE plpgsql AS $$"
    f" BEGIN PERFORM mine.tell('{sign}'); RETURN 1; END $$;CREATE OPERATOR public.{sign} (LEFTARG ="
    f" mine.{kind}, RIGHTARG = {own}, FUNCTION = public.far_{number});"
    for number, (kind, own, sign) in enumerate(
        (kind, own, sign)
        for kind, own in (("four", "vector"), ("any_four", "vector"), ("halves", "halfvec"))
        for sign in ("<->", "<=>", "<#>")
    )
)
# Where a function may stand, for reading evaluates none of these.
HARMLESS = {
    "with_default": "ALTER TABLE {t} ALTER id SET DEFAULT number(5)",
    "with_trigger": (
        "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM"
        " mine.tell('trigger'); RETURN NEW; END $$; CREATE TRIGGER t BEFORE INSERT ON {t} FOR EACH"
        " ROW EXECUTE FUNCTION fire()"
    ),
}


# Names of ours that would be found in the attacker's schema, some by types that fit better than
# PostgreSQL's own.
SHADOWS = """
SET SESSION AUTHORIZATION mallory; SET search_path = mine, public;
CREATE FUNCTION set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell('set_config'); RETURN $2; END $$;
CREATE FUNCTION hashtextextended(text, int) RETURNS bigint LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell('hash'); RETURN 1; END $$;
CREATE FUNCTION record_send(plain) RETURNS bytea LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell('record_send'); RETURN ''; END $$;
CREATE FUNCTION count(anyelement) RETURNS bigint LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell('count'); RETURN 1; END $$;
CREATE FUNCTION is_closer(vector, vector) RETURNS float8 LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell('closer'); RETURN 1; END $$;
CREATE OPERATOR <-> (LEFTARG = vector, RIGHTARG = vector, FUNCTION = is_closer);
CREATE OPERATOR <=> (LEFTARG = vector, RIGHTARG = vector, FUNCTION = is_closer);
CREATE FUNCTION is_same(name, text) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell('='); RETURN true; END $$;
CREATE OPERATOR = (LEFTARG = name, RIGHTARG = text, FUNCTION = is_same);
CREATE TABLE pgdrill_heartbeat (at timestamptz DEFAULT clock_timestamp());
GRANT INSERT ON pgdrill_heartbeat TO PUBLIC;
CREATE FUNCTION beaten() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mine.tell('beaten'); RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON pgdrill_heartbeat FOR EACH ROW EXECUTE FUNCTION beaten();
RESET SESSION AUTHORIZATION
"""


@dataclass
class Attack:
    """A database of production with a table for each kind, and the attacker's session, which
    listens.
    """

    stack: Stack
    listener: psycopg.Connection

    @property
    def access(self) -> Access:
        cluster = self.stack.cluster
        server = cluster.server.model_copy(update={"databases": (HOME,)})
        drill = cluster.drill.model_copy(
            update={"heartbeat": "", "state_tables": ("mine.check", "mine.plain")}
        )
        return Access(
            cluster.model_copy(update={"server": server, "drill": drill, "vectors": ()}),
            self.stack.credentials,
        )

    def heard(self) -> set[str]:
        """What was told since; by name of the kind."""
        self.listener.execute("SELECT 1")
        # autovacuum, as the owner
        told = {one.payload for one in self.listener.notifies(timeout=0.5)} - {
            "notified by mallory"
        }
        written = {
            row[0]
            for row in self.listener.execute("DELETE FROM mine.heard RETURNING what").fetchall()
        }
        return told | written


@pytest.fixture(scope="module")
def attack(stack: Stack) -> Iterator[Attack]:
    with stack.connect("postgres") as connection:
        connection.execute("CREATE ROLE mallory LOGIN PASSWORD 'mallory'")
        connection.execute(f"CREATE DATABASE {HOME}")
    stack.passwords["mallory"] = "mallory"
    with stack.connect(HOME) as connection:
        connection.execute(
            "GRANT EXECUTE ON FUNCTION pg_switch_wal(), pg_create_restore_point(text) TO pgdrill"
        )
        connection.execute(ATTACKER)
        for name, statement in {
            **KINDS,
            **DOMAINS,
            **HARMLESS,
            "plain": "CREATE INDEX ON {t} USING hnsw (v vector_l2_ops)",
        }.items():
            table = f'"{name}"'
            connection.execute(f"CREATE TABLE {table} (id int, note text, v vector(4))")
            connection.execute(
                f"INSERT INTO {table} SELECT i, 'row ' || i, ARRAY[i, i % 7, i % 5,"
                " 1]::real[]::vector FROM generate_series(1, 200) i"
            )
            connection.execute(statement.replace("on_{t}", f"on_{name}").replace("{t}", table))
            connection.execute(f"ANALYZE {table}")
        connection.execute(
            "CREATE TABLE parted (id int, note text, v vector(4)) PARTITION BY RANGE ((id +"
            " number(6)))"
        )
        connection.execute(
            "CREATE TABLE part PARTITION OF parted DEFAULT; INSERT INTO part SELECT i, 'row',"
            " '[1,2,3,4]' FROM generate_series(1, 50) i"
        )
        connection.execute("CREATE MATERIALIZED VIEW seen AS SELECT id, number(7) AS n FROM plain")
        connection.execute("CREATE SEQUENCE numbers; SELECT nextval('numbers')")
        connection.execute(
            "CREATE TABLE beats (at timestamptz DEFAULT now()); INSERT INTO beats VALUES (now());"
            " CREATE INDEX ON beats (at) WHERE peek('beats')"
        )
        connection.execute("RESET SESSION AUTHORIZATION")
        # What the owner of a database can do besides: CHECKs are looked at when planning, and his
        # schema comes first.
        connection.execute(f"ALTER DATABASE {HOME} SET constraint_exclusion = on")
        connection.execute(f"ALTER DATABASE {HOME} SET search_path = mine, public, pg_catalog")
        connection.execute(SHADOWS)
        connection.execute(
            f"SET SESSION AUTHORIZATION mallory; {NAMESAKES} RESET SESSION AUTHORIZATION"
        )
    listener = psycopg.connect(stack.conninfo("mallory", HOME), autocommit=True)
    listener.execute("LISTEN canary")
    try:
        yield Attack(stack, listener)
    finally:
        listener.close()
        with stack.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE {HOME} WITH (FORCE)")
            connection.execute("DROP ROLE mallory")
        del stack.passwords["mallory"]


def test_the_attack_works_on_whoever_plans(attack: Attack) -> None:
    """What the other tests do not hear can be heard."""
    with psycopg.connect(attack.stack.conninfo("pgdrill", HOME), autocommit=True) as reader:
        reader.execute("SELECT count(*) FROM ONLY mine.folded_predicate")
    assert any(SECRET in words for words in attack.heard())


def test_a_baseline_runs_no_owners_function(attack: Attack) -> None:
    attack.heard()
    baseline = take_baseline(attack.access, restore_point="quiet")
    settle(attack.access, baseline)
    assert not attack.heard()
    found = baseline.databases[HOME]
    # Each table is named with whose function it was, its rows are known all the same, and its index
    # was not searched.
    for name in (*KINDS, "part"):
        table = found.tables[f"mine.{name}"]
        assert table.code, name
        assert (table.content, table.sample, table.copied and table.copied.rows) == (
            None,
            {},
            50 if name == "part" else 200,
        )
        assert found.vectors[f"mine.{name}.v"].code == table.code
        assert not found.vectors[f"mine.{name}.v"].searches
    assert set(baseline.not_queried) == {
        f"{HOME}.mine.{name}" for name in (*KINDS, "part", "beats")
    }
    for name in DOMAINS:
        assert found.vectors[f"mine.{name}.v"].searches, (name, found.vectors[f"mine.{name}.v"])
        assert not found.vectors[f"mine.{name}.v"].trouble
    for name in (*HARMLESS, *DOMAINS, "plain", "seen"):
        assert found.tables[f"mine.{name}"].content, name
    assert len(found.vectors["mine.plain.v"].searches[0].whole.neighbours) == 50
    assert found.tables["mine.generated"].copied.hidden == ["g"]
    assert "mine.peek(text)" in found.tables["mine.check"].code
    assert (found.state_tables["mine.check"].rows, found.state_tables["mine.plain"].rows) == (
        200,
        200,
    )
    assert "peek" in found.state_tables["mine.check"].code
    assert not found.state_tables["mine.plain"].code
    assert found.sequences["mine.numbers"].value == 1
    assert SECRET not in baseline.model_dump_json()


def test_a_baseline_without_samples_runs_none_either(attack: Attack) -> None:
    attack.heard()
    take_baseline(attack.access)
    assert not attack.heard()


def test_a_heartbeat_is_neither_asked_for_nor_written_where_that_runs_a_function(
    attack: Attack,
) -> None:
    attack.heard()
    drill = attack.access.cluster.drill.model_copy(update={"heartbeat": "mine.beats.at"})
    access = Access(
        attack.access.cluster.model_copy(update={"drill": drill}), attack.access.credentials
    )
    found = read_heartbeats(access)
    assert found
    assert (found.newest_at, found.trouble) == (None, "")
    assert "index beats_at_idx calls" in found.not_asked
    words = {**access.credentials.postgres, "dbname": HOME}
    with pytest.raises(CouldNotVerify) as caught:
        beat(Access(access.cluster, Credentials(words, access.credentials.environment)))
    assert caught.value.problem.reason == "heartbeat-runs-code"
    assert "trigger t calls" in caught.value.problem.found
    assert not attack.heard()


def test_a_backup_and_a_drill_run_none_and_say_what_was_not_asked(attack: Attack) -> None:
    attack.heard()
    take_backup(attack.access)
    report = drill(attack.access, families=("vectors", "rows"))
    assert not attack.heard()
    wrong = [one for one in report.results if one.status == "fail"]
    assert report.restore.status == "ok", report.restore
    assert not wrong
    answers = {(one.name, one.thing): one for one in report.results}
    for name in (*KINDS, "part"):
        told = answers["table-content", f"{HOME}.mine.{name}"]
        assert (told.status, told.value) == ("pass", 50 if name == "part" else 200), told
        assert " calls " in told.message or " may call " in told.message
        neighbours = answers["exact-neighbours", f"mine.{name}.v"]
        assert (neighbours.status, neighbours.value, neighbours.required) == (
            "skip",
            "not asked",
            False,
        )
        assert " calls " in neighbours.message or " may call " in neighbours.message
    # The copy's own index against the copy's exact neighbours: that needs nothing of production.
    assert (
        answers["index-recall", "mine.index_predicate.v (index_predicate_v_idx)"].status == "pass"
    )
    for name in ("plain", *(name for name in DOMAINS if name != "of_any_dimensions")):
        assert answers["exact-neighbours", f"mine.{name}.v ({name}_v_idx)"].status == "pass"
    assert answers["state-tables", f"{HOME}.mine.check"].status == "pass"
    assert report.timings.time_to_correct_vector_search_seconds


def test_what_is_missing_from_such_a_table_is_told_by_its_hashes(attack: Attack) -> None:
    baseline = take_baseline(attack.access, restore_point="hashes")
    settle(attack.access, baseline)
    state, line = baseline.databases[HOME].tables["mine.check"], baseline.databases[HOME].horizon
    for damage, words in {
        "DELETE FROM mine.check WHERE id = 7": "1",
        "UPDATE mine.check SET v = '[9,9,9,9]' WHERE id = 7": "1",
        "DELETE FROM mine.check WHERE id = 7; INSERT INTO mine.check VALUES (7, 'row 8')": "1",
        "UPDATE mine.check SET note = note": "200",
    }.items():
        with attack.stack.connect(HOME) as connection:
            connection.execute("BEGIN")
            connection.execute(damage)
            found, _ = answer(connection, "mine.check", "mine", "check", line, state)
            connection.execute("ROLLBACK")
        assert (found.status, str(found.value)) == (
            "pass" if "note = note" in damage else "fail",
            words,
        ), found


def test_a_dump_runs_none(attack: Attack) -> None:
    attack.heard()
    made = take_dump(attack.access, databases=(HOME,)).databases[0]
    assert not attack.heard()
    for name in (*KINDS, "part"):
        table = made.tables[f"mine.{name}"]
        assert (table.rows, bool(table.digest), bool(table.code)) == (
            50 if name == "part" else 200,
            True,
            True,
        ), name
    assert not made.tables["mine.plain"].code
    assert {index.name: index.rows for index in made.vector_indexes}["index_predicate_v_idx"] == 200


def test_an_index_that_is_added_while_the_table_is_read_ends_the_reading_of_it(
    attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of a reader lets indexes be added; the next statement, in the second snapshot, would
    fold their constants.
    """
    attack.heard()
    real, added = reading.read_content, list[str]()

    def meanwhile(
        connection: psycopg.Connection, schema: str, table: str, line: Any, **more: Any
    ) -> Any:
        made = real(connection, schema, table, line, **more)
        if table == "plain" and not added:
            added.append(table)
            attack.listener.execute(
                "CREATE INDEX added ON mine.plain (id) WHERE mine.peek('added')"
            )
        return made

    monkeypatch.setattr(reading, "read_content", meanwhile)
    try:
        baseline = take_baseline(attack.access, restore_point="added")
    finally:
        attack.listener.execute("DROP INDEX mine.added")
    table = baseline.databases[HOME].tables["mine.plain"]
    assert (table.content and table.content.rows, table.bracketed) == (200, False)
    assert (
        "index added calls mine.peek(text)" in baseline.databases[HOME].vectors["mine.plain.v"].code
    )
    assert not attack.heard()


def test_a_table_that_somebody_is_changing_is_not_queried_at_that_moment(attack: Attack) -> None:
    attack.heard()
    with psycopg.connect(attack.stack.conninfo("mallory", HOME)) as other:
        other.execute("CREATE INDEX soon ON mine.plain (id) WHERE mine.peek('soon')")
        baseline = take_baseline(attack.access)
        other.rollback()
    assert "being changed" in baseline.databases[HOME].tables["mine.plain"].code
    assert not attack.heard()


def test_an_index_that_is_made_concurrently_keeps_no_table_from_being_read(attack: Attack) -> None:
    """It waits for whoever reads, so it cannot be waited for."""
    with (
        psycopg.connect(attack.stack.conninfo("mallory", HOME)) as older,
        psycopg.connect(attack.stack.conninfo("mallory", HOME), autocommit=True) as maker,
        ThreadPoolExecutor(1) as pool,
    ):
        older.execute("LOCK TABLE mine.plain IN ROW EXCLUSIVE MODE")
        making = pool.submit(maker.execute, "REINDEX INDEX CONCURRENTLY mine.plain_v_idx")
        waiting = (
            "SELECT FROM pg_stat_progress_create_index WHERE pid = %s AND phase LIKE 'waiting%%'"
        )
        with attack.stack.connect(HOME) as superuser:
            while superuser.execute(waiting, (maker.info.backend_pid,)).fetchone() is None:
                assert not making.done()
        baseline = take_baseline(attack.access)
        older.rollback()
        making.result(timeout=30)
    assert not baseline.databases[HOME].tables["mine.plain"].code
    assert baseline.databases[HOME].vectors["mine.plain.v"].searches


def test_a_name_that_becomes_a_view_is_not_read(attack: Attack) -> None:
    with (
        attack.stack.connect(HOME) as connection,
        psycopg.connect(attack.stack.conninfo("pgdrill", HOME)) as reader,
    ):
        connection.execute("CREATE TABLE mine.turned (id int)")
        (oid,) = connection.execute("SELECT 'mine.turned'::regclass::oid::int8").fetchone() or (0,)
        connection.execute(
            "DROP TABLE mine.turned; CREATE VIEW mine.turned AS SELECT mine.number(1) AS id"
        )
        with pytest.raises(psycopg.errors.UndefinedTable):
            Guard(connection).why_not(reader, "mine", "turned", oid)
        reader.rollback()
        connection.execute("DROP VIEW mine.turned")
