"""Every row of every system catalog: lost or changed on the copy, it is found and named;
production's own are no alarm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from pgdrill.backup import take_backup
from pgdrill.baseline import Baseline
from pgdrill.checks.base import Context
from pgdrill.checks.runner import checking, run_checks
from pgdrill.drill import check_stage, destroy_stage, new_drill_id, restore_stage
from pgdrill.postgres.catalog_fingerprint import (
    CATALOGS,
    FIRST_USER_OID,
    SKIPPED,
    Difference,
    differences,
    read_fingerprint,
)
from pgdrill.postgres.session import SYSTEM_PATH
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill.reports.model import CheckResult
from pgdrill_demo.stack import binaries, preferred_tool
from tests.conftest import need
from tests.damage.small import SmallStack
from tests.integration.worlds import healthy, production

# One of everything, with what only extensions would bring put in by hand.
EVERYTHING = """
CREATE ROLE reader; CREATE ROLE writer; GRANT reader TO writer;
ALTER ROLE reader SET work_mem = '8MB';
CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE span AS RANGE (subtype = int4);
CREATE DOMAIN small AS int CHECK (VALUE < 10);
CREATE TABLE parts (id int, owner text DEFAULT 'nobody', feeling mood, PRIMARY KEY (id))
    PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE STATISTICS together (dependencies) ON id, owner FROM parts_1;
ALTER STATISTICS together SET STATISTICS 50;
CREATE POLICY own ON docs TO reader USING (id > 0); GRANT SELECT ON docs TO reader;
COMMENT ON TABLE docs IS 'documents';
CREATE VIEW seen AS SELECT id FROM docs;
CREATE RULE nothing AS ON INSERT TO seen DO INSTEAD NOTHING;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER stamped BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE FUNCTION watched() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION watched();
CREATE PUBLICATION shown FOR TABLE docs WHERE (id > 0), TABLES IN SCHEMA public;
CREATE SUBSCRIPTION fed CONNECTION 'dbname=nowhere' PUBLICATION shown
    WITH (connect = false, slot_name = NONE);
INSERT INTO pg_subscription_rel SELECT s.oid, 'docs'::regclass, 'd', NULL FROM pg_subscription s;
CREATE FOREIGN DATA WRAPPER far; CREATE SERVER away FOREIGN DATA WRAPPER far OPTIONS (host 'there');
CREATE USER MAPPING FOR reader SERVER away OPTIONS (password 'secret');
CREATE FOREIGN TABLE abroad (id int) SERVER away;
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal),
    TO SQL WITH FUNCTION int4recv(internal));
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;
GRANT SET ON PARAMETER log_statement TO reader;
CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple);
CREATE TEXT SEARCH DICTIONARY stems (TEMPLATE = snowball, language = english);
ALTER TEXT SEARCH CONFIGURATION plain ALTER MAPPING FOR asciiword WITH stems;
CREATE CAST (mood AS int4) WITH FUNCTION hashenum(anyenum) AS ASSIGNMENT;
CREATE CONVERSION odd FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE AGGREGATE total (int4) (sfunc = int4pl, stype = int4);
CREATE OPERATOR === (leftarg = int4, rightarg = int4, function = int4eq);
CREATE OPERATOR CLASS ints FOR TYPE int4 USING btree AS
    OPERATOR 3 ===, FUNCTION 1 btint4cmp(int4, int4);
CREATE ACCESS METHOD kept TYPE TABLE HANDLER heap_tableam_handler;
CREATE LANGUAGE spoken HANDLER plpgsql_call_handler;
CREATE COLLATION ours (locale = 'C', provider = libc); CREATE TEXT SEARCH PARSER words
  (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype);
CREATE TEXT SEARCH TEMPLATE blank (LEXIZE = dsimple_lexize);
INSERT INTO pg_seclabel SELECT 'docs'::regclass, 'pg_class'::regclass, 0, 'selinux', 'secret';
INSERT INTO pg_shseclabel SELECT oid, 'pg_authid'::regclass, 'selinux', 'secret'
    FROM pg_roles WHERE rolname = 'reader';
INSERT INTO pg_init_privs
    VALUES ('docs'::regclass, 'pg_class'::regclass, 0, 'e', '{reader=r/postgres}');
CREATE SEQUENCE counter; CREATE SCHEMA aside; COMMENT ON ROLE reader IS 'reads';
ALTER DATABASE agents SET random_page_cost = 2;
CREATE MATERIALIZED VIEW digest AS SELECT id, body FROM docs;
"""
ORIGINS = (
    "SELECT pg_replication_origin_create('upstream')",
    "SELECT pg_replication_origin_create('idle')",
    "SELECT pg_replication_origin_advance('upstream', '0/1234')",
)
NUMBER = re.compile(r"^[\d.]+$|\b\d{5,}\b")


@dataclass
class Restored:
    """A copy that its own drill has passed, and what production was."""

    stack: SmallStack
    workspace: Workspace
    baseline: Baseline

    def connect(self) -> psycopg.Connection:
        return self.workspace.server(self.stack.access).connect(
            "agents", autocommit=False, search_path=SYSTEM_PATH
        )

    def found(self, *damage: str) -> list[Difference]:
        """What differs after that, which is taken back again."""
        with self.connect() as connection:
            connection.execute("SET allow_system_table_mods = on")
            for one in damage:
                connection.execute(one)
            every = [
                (True, self.baseline.shared_objects),
                (False, self.baseline.databases["agents"].schema_objects),
            ]
            found = [
                one
                for shared, before in every
                for one in differences(
                    before, read_fingerprint(connection, shared=shared, like=before)
                )
            ]
            connection.rollback()
            return found

    def answers(self, *damage: str) -> list[CheckResult]:
        """The red answers of the schema's checks after damage that stays."""
        server = self.workspace.server(self.stack.access)
        with server.connect("agents") as connection:
            for one in ("SET allow_system_table_mods = on", *damage):
                connection.execute(one)
        context = Context(
            cluster=self.stack.cluster,
            connect=checking(lambda name: server.connect(name, autocommit=False), 60),
            databases=("agents",),
            baseline=self.baseline.model_copy(deep=True),
            settle=lambda: True,
        )
        return [one for one in run_checks(context, ("schema",)) if one.status == "fail"]


@pytest.fixture(scope="module")
def restored() -> Iterator[Restored]:
    with production(
        need(preferred_tool()),
        options={"allow_system_table_mods": "on", "max_replication_slots": "20"},
    ) as stack:
        if binaries().major_version < 18:
            pytest.skip("statements of PostgreSQL 18")
        with stack.connect() as connection:
            connection.execute(EVERYTHING)  # type: ignore[call-overload]
            connection.execute("SELECT lo_create(4711)")
            for one in ORIGINS:
                connection.execute(one)
        take_backup(stack.access)
        drill_id = new_drill_id()
        try:
            report = restore_stage(stack.access, drill_id)
            assert report.restore.status == "ok", report.restore.trouble
            healthy(check_stage(stack.access, drill_id))
            baseline = store.load_baseline(stack.access, drill_id)
            assert baseline is not None
            yield Restored(stack, Workspace.of(stack.access, drill_id), baseline)
        finally:
            destroy_stage(stack.access, drill_id)


def a_row_of_each(connection: psycopg.Connection, which: str) -> dict[str, str]:
    """By catalog, the place of the first or last row that is a user's."""
    places = {}
    for catalog, _, _, key, columns, _ in connection.execute(CATALOGS).fetchall():
        numbers = [
            name for name, kind, _ in columns if name in (key or []) and kind in ("oid", "regproc")
        ]
        if not numbers or catalog in SKIPPED:
            continue
        number = sql.SQL("greatest({})").format(
            sql.SQL(", ").join(
                sql.SQL("{}::oid::int8").format(sql.Identifier(one)) for one in numbers
            )
        )
        own = sql.SQL("{} >= {}").format(
            number, 1 if catalog == "pg_replication_origin" else FIRST_USER_OID
        )
        own += (
            sql.SQL(" AND nspname !~ '^pg_(toast_)?temp_'")
            if catalog == "pg_namespace"
            else sql.SQL("")
        )
        query = sql.SQL("SELECT {}(ctid)::text FROM {} WHERE {}").format(
            sql.SQL(which), sql.Identifier(catalog), own
        )
        row = connection.execute(query).fetchone()
        places[catalog] = row[0] if row and row[0] else ""
    return places


@pytest.mark.parametrize("which", ["min", "max"])
def test_a_row_that_is_gone_is_missed_in_every_catalog(restored: Restored, which: str) -> None:
    """A row of each at once, so that what describes one is gone with another: the names are those
    of the record.
    """
    with restored.connect() as connection:
        places = a_row_of_each(connection, which)
    assert [catalog for catalog, place in places.items() if not place] == ["pg_tablespace"], (
        "this test has no object for it"
    )
    found = restored.found(
        *(
            f"DELETE FROM {catalog} WHERE ctid = '{place}'"
            for catalog, place in places.items()
            if place
        )
    )
    assert {catalog for catalog, place in places.items() if place} - {
        one.catalog for one in found
    } == set()
    assert [one for one in found if one.how != "new" and NUMBER.search(one.name)] == []


CHANGES = {
    "an origin's name": (
        "UPDATE pg_replication_origin SET roname = 'other' WHERE roname = 'upstream'",
        "replication origin upstream",
    ),
    "a table's state in a subscription": (
        "UPDATE pg_subscription_rel SET srsubstate = 'r'",
        "subscription fed of table docs",
    ),
    "where a table's copy ended": (
        "UPDATE pg_subscription_rel SET srsublsn = '0/1234'",
        "subscription fed of table docs",
    ),
    "a subscription's slot": (
        "UPDATE pg_subscription SET subslotname = 'other'",
        "subscription fed",
    ),
    "a subscription's skipped change": (
        "UPDATE pg_subscription SET subskiplsn = '0/99'",
        "subscription fed",
    ),
    "what is published": ("UPDATE pg_publication SET pubdelete = false", "publication shown"),
    "which rows are published": (
        "UPDATE pg_publication_rel SET prqual = NULL",
        "publication of table docs in publication shown",
    ),
    "how much is sampled for statistics": (
        "UPDATE pg_statistic_ext SET stxstattarget = 1",
        "statistics object together",
    ),
    "a label of mandatory access": ("UPDATE pg_seclabel SET label = 'public'", "table docs"),
    "a role's label of mandatory access": (
        "UPDATE pg_shseclabel SET label = 'public'",
        "role reader",
    ),
    "a role's setting": ("ALTER ROLE reader RESET work_mem", "settings of role reader"),
    "a parameter's rights": (
        "UPDATE pg_parameter_acl SET paracl = '{}'",
        "parameter log_statement",
    ),
    "a foreign server's options": (
        "ALTER SERVER away OPTIONS (SET host 'elsewhere')",
        "server away",
    ),
    "a user mapping's password": (
        "ALTER USER MAPPING FOR reader SERVER away OPTIONS (SET password 'x')",
        "user mapping for reader on server away",
    ),
    "a foreign table's options": (
        "ALTER FOREIGN TABLE abroad OPTIONS (ADD x 'y')",
        "foreign table abroad",
    ),
    "a transform's function": (
        "UPDATE pg_transform SET trftosql = 0",
        "transform for integer language sql",
    ),
    "default privileges": (
        "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM reader",
        "default privileges on new relations belonging to role postgres",
    ),
    "initial privileges": (
        "UPDATE pg_init_privs SET initprivs = '{}' WHERE objoid = 'docs'::regclass",
        "table docs",
    ),
    "a dictionary in a search configuration": (
        (
            "UPDATE pg_ts_config_map SET mapdict = 'simple'::regdictionary WHERE mapdict ="
            " 'stems'::regdictionary"
        ),
        (
            "mapping of token type 1 to text search dictionary stems in text search configuration"
            " plain"
        ),
    ),
    "an enum's order": (
        "UPDATE pg_enum SET enumsortorder = 9 WHERE enumlabel = 'sad'",
        "label 'sad' of type mood",
    ),
    "a membership's option": (
        "UPDATE pg_auth_members SET inherit_option = false WHERE roleid = 'reader'::regrole",
        "membership of role writer in role reader",
    ),
    "a range's function": (
        "UPDATE pg_range SET rngsubdiff = 'int4mi'::regproc WHERE rngtypid = 'span'::regtype",
        "type span",
    ),
    "an aggregate's function": (
        (
            "UPDATE pg_aggregate SET aggtransfn = 'int4mi'::regproc WHERE aggfnoid ="
            " 'public.total'::regproc"
        ),
        "function total(integer)",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_row_that_was_changed_is_named(restored: Restored, kind: str) -> None:
    statement, name = CHANGES[kind]
    found = restored.found(
        "SET LOCAL search_path = public", statement, "SET LOCAL search_path = pg_catalog, pg_temp"
    )
    assert name in {one.name.replace("public.", "") for one in found}, found


def test_one_cause_is_one_answer_with_the_objects_name(restored: Restored) -> None:
    """Damage that stays, so the last of these: a dropped origin, and a materialized view whose
    TOAST table is another now.
    """
    found = restored.answers(
        "SELECT pg_replication_origin_drop('idle')", "REFRESH MATERIALIZED VIEW digest WITH NO DATA"
    )
    assert sorted((one.thing, one.value) for one in found) == [
        ("agents: materialized view digest", "changed"),
        ("cluster: replication origin idle", "missing"),
    ]
