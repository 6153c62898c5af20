"""Whatever differs in the schema is found and named, without a list of what can go wrong."""

from __future__ import annotations

import pytest

from tests.detection.conftest import Copy

FAMILIES = ("schema",)

DAMAGES = {
    "an index dropped": ("DROP INDEX embeddings_hnsw_idx", "index embeddings_hnsw_idx"),
    "an index marked invalid": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'embeddings_hnsw_idx'::regclass",
        "index embeddings_hnsw_idx",
    ),
    "an index rebuilt with poor options": (
        "ALTER INDEX embeddings_hnsw_idx SET (ef_construction = 4)",
        "index embeddings_hnsw_idx",
    ),
    "an index of another operator class": (
        (
            "UPDATE pg_index SET indclass = (SELECT array_to_string(ARRAY[oid], ' ')::oidvector"
            " FROM pg_opclass WHERE opcname = 'vector_l2_ops' AND opcmethod = (SELECT oid FROM"
            " pg_am WHERE amname = 'hnsw')) WHERE indexrelid = 'embeddings_hnsw_idx'::regclass"
        ),
        "index embeddings_hnsw_idx",
    ),
    "another extension version": (
        "UPDATE pg_extension SET extversion = '0.7.0' WHERE extname = 'vector'",
        "extension vector",
    ),
    "an extension's schema moved": (
        "CREATE SCHEMA elsewhere; ALTER EXTENSION pg_trgm SET SCHEMA elsewhere",
        "extension pg_trgm",
    ),
    "a policy dropped": (
        (
            "DO $$ DECLARE p record; BEGIN SELECT * INTO p FROM pg_policies WHERE tablename ="
            " 'embeddings' LIMIT 1; EXECUTE format('DROP POLICY %I ON embeddings', p.policyname);"
            " END $$"
        ),
        "on table embeddings",
    ),
    "row security switched off": (
        "ALTER TABLE hc_patients DISABLE ROW LEVEL SECURITY",
        "table hc_patients",
    ),
    "a role's attribute changed": ("ALTER ROLE agents_app BYPASSRLS", "role agents_app"),
    "a role's membership lost": (
        (
            "DO $$ DECLARE m record; BEGIN SELECT roleid::regrole r, member::regrole m INTO m FROM"
            " pg_auth_members WHERE roleid >= 16384 OR member >= 16384 LIMIT 1;"
            " EXECUTE format('REVOKE %s FROM %s', m.r, m.m); END $$"
        ),
        "membership",
    ),
    "a grant lost": ("REVOKE ALL ON hc_patients FROM agents_app", "table hc_patients"),
    "a setting of a role": ("ALTER ROLE agents_app SET search_path = nowhere", "agents_app"),
    "a constraint dropped": (
        (
            "DO $$ DECLARE c record; BEGIN SELECT conname, conrelid::regclass t INTO c FROM"
            " pg_constraint WHERE contype = 'f' AND conrelid::regclass::text LIKE 'hc_%' LIMIT 1;"
            " EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END $$"
        ),
        "constraint",
    ),
    "a constraint not validated": (
        (
            "UPDATE pg_constraint SET convalidated = false WHERE oid = (SELECT oid FROM"
            " pg_constraint WHERE contype = 'f' AND oid >= 16384 LIMIT 1)"
        ),
        "constraint",
    ),
    "a trigger disabled": ("ALTER TABLE hc_patients DISABLE TRIGGER ALL", "trigger"),
    "a function's body changed": (
        (
            "DO $$ DECLARE f oid; BEGIN SELECT oid INTO f FROM pg_proc WHERE oid >= 16384 AND"
            " prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql') LIMIT 1; UPDATE"
            " pg_proc SET prosrc = prosrc || ' -- ' WHERE oid = f; END $$"
        ),
        "function",
    ),
    "a view's definition changed": ("CREATE VIEW extra AS SELECT 1 AS one", "view extra"),
    "a partition missing": (
        (
            "DO $$ DECLARE p regclass; BEGIN SELECT inhrelid::regclass INTO p FROM pg_inherits"
            " WHERE inhparent = 'messages'::regclass LIMIT 1; EXECUTE format('ALTER TABLE messages"
            " DETACH PARTITION %s', p); END $$"
        ),
        "table messages",
    ),
    "a partition dropped": (
        (
            "DO $$ DECLARE p regclass; BEGIN SELECT inhrelid::regclass INTO p FROM pg_inherits"
            " WHERE inhparent = 'messages'::regclass ORDER BY inhrelid DESC LIMIT 1; EXECUTE"
            " format('DROP TABLE %s', p); END $$"
        ),
        "table messages",
    ),
    "the extension of the vectors in another schema": (
        "CREATE SCHEMA elsewhere; ALTER EXTENSION vector SET SCHEMA elsewhere",
        "extension vector",
    ),
    "a policy's condition changed": (
        (
            "DO $$ DECLARE p record; BEGIN SELECT * INTO p FROM pg_policies WHERE tablename ="
            " 'embeddings' LIMIT 1; EXECUTE format('ALTER POLICY %I ON embeddings USING (true)',"
            " p.policyname); END $$"
        ),
        "policy",
    ),
    "a role missing": (
        (
            "DO $$ DECLARE r text; BEGIN SELECT rolname INTO r FROM pg_roles WHERE oid >= 16384 AND"
            " rolname <> 'pgdrill' ORDER BY oid DESC LIMIT 1; EXECUTE format('DROP OWNED BY %I"
            " CASCADE', r); EXECUTE format('DROP ROLE %I', r); END $$"
        ),
        "role",
    ),
    "a role's password changed": ("ALTER ROLE pgdrill PASSWORD 'other'", "role pgdrill"),
    "an owner changed": ("ALTER TABLE re_plans OWNER TO agents_app", "table re_plans"),
    "a default privilege": (
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        "default privileges",
    ),
    "row security no longer forced": (
        (
            "ALTER TABLE hc_patients NO FORCE ROW LEVEL SECURITY; ALTER TABLE hc_patients FORCE ROW"
            " LEVEL SECURITY; UPDATE pg_class SET relforcerowsecurity = NOT relforcerowsecurity"
            " WHERE oid = 'hc_clinics'::regclass"
        ),
        "table hc_clinics",
    ),
    "a column's type changed": (
        "ALTER TABLE hc_patients ADD COLUMN surplus int",
        "table hc_patients",
    ),
    "a column's default lost": (
        (
            "UPDATE pg_attribute SET atthasdef = false WHERE attrelid = 'agents'::regclass AND"
            " attnum = (SELECT min(attnum) FROM pg_attribute WHERE attrelid = 'agents'::regclass"
            " AND atthasdef)"
        ),
        "table agents",
    ),
    "a model label missing": (
        "COMMENT ON COLUMN embeddings.embedding IS NULL",
        "column embedding of table embeddings",
    ),
    "a model label wrong": (
        'COMMENT ON COLUMN embeddings.embedding IS \'pgdrill: {"model": "other", "version": "9"}\'',
        "column embedding of table embeddings",
    ),
    "a materialized view not populated": (
        "REFRESH MATERIALIZED VIEW sales_pipeline_summary WITH NO DATA",
        "materialized view sales_pipeline_summary",
    ),
    "another collation": (
        "UPDATE pg_database SET datcollate = 'C' WHERE datname = 'agents'",
        "database agents",
    ),
    "another encoding": (
        "UPDATE pg_database SET encoding = 8 WHERE datname = 'agents'",
        "database agents",
    ),
    "a setting of the database": ("ALTER DATABASE agents SET work_mem = '1MB'", "agents"),
    "an enum's label changed": (
        "UPDATE pg_enum SET enumlabel = 'other' WHERE oid = (SELECT min(oid) FROM pg_enum)",
        "",
    ),
    "a sequence's increment": (
        (
            "DO $$ DECLARE s regclass; BEGIN SELECT seqrelid::regclass INTO s FROM pg_sequence"
            " LIMIT 1; EXECUTE format('ALTER SEQUENCE %s INCREMENT 7', s); END $$"
        ),
        "sequence",
    ),
    "a table too many": ("CREATE TABLE surplus (id int)", "table surplus"),
    "a built-in function's rights": (
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO PUBLIC",
        "objects of PostgreSQL itself",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_catalogs_check_names_the_object(copy: Copy, kind: str) -> None:
    statement, name = DAMAGES[kind]
    copy.sql("SET allow_system_table_mods = on", statement)
    red = copy.red("schema")
    assert "catalogs" in red, f"{kind} went unseen"
    assert any(name in line for line in red["catalogs"]), red


def test_an_extension_of_another_version_than_recorded_is_named(copy: Copy) -> None:
    copy.sql(
        "SET allow_system_table_mods = on",
        "UPDATE pg_extension SET extversion = '0.7.0' WHERE extname = 'vector'",
    )
    found = {
        (r.name, r.status): (r.thing, r.value)
        for r in copy.results(*FAMILIES)
        if r.status != "pass"
    }
    assert found["extension-versions", "fail"] == ("agents.vector", "0.7.0")


def test_maintenance_is_no_difference(copy: Copy) -> None:
    copy.sql(
        "VACUUM ANALYZE",
        "REINDEX TABLE embeddings",
        "CREATE TEMP TABLE passing (id int PRIMARY KEY, t text)",
    )
    assert copy.red("schema") == {}
