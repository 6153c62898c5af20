"""What a backup and its tool ask production, in a database whose owner put names of his before
PostgreSQL's own.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pgdrill.backup import take_backup
from pgdrill_demo.stack import DATABASE
from tests.damage.small import SmallStack
from tests.integration.conftest import TOOLS, need
from tests.integration.worlds import production

ATTACK = """
CREATE ROLE mallory LOGIN;
ALTER DATABASE {database} OWNER TO mallory;
SET SESSION AUTHORIZATION mallory;
CREATE SCHEMA mine;
GRANT USAGE ON SCHEMA mine TO PUBLIC;
CREATE TABLE mine.heard (what text);
GRANT INSERT, SELECT ON mine.heard TO PUBLIC;
CREATE FUNCTION mine.tell(text) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO mine.heard VALUES ($1); RETURN true; END $$;
ALTER DATABASE {database} SET search_path = mine, public, pg_catalog;
"""
# Each function and operator that a question may name, and each relation, with the very same types.
NAMESAKES = """
DO $do$
DECLARE each record; made int := 0;
BEGIN
    FOR each IN
        SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments,
            format_type(p.prorettype, NULL) AS gives, p.proretset
        FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f'
            AND (p.proname ~ '^pg_'
                OR p.proname IN ('current_setting', 'set_config', 'version', 'now',
                    'lower', 'upper', 'length', 'nullif'))
    LOOP
        BEGIN
            EXECUTE format(
                'CREATE FUNCTION mine.%I(%s) %s LANGUAGE plpgsql AS \
$$ BEGIN PERFORM mine.tell(%L); RETURN%s; END $$',
                each.proname, each.arguments,
                CASE WHEN each.arguments ~ 'OUT ' THEN ''
                    ELSE 'RETURNS ' || CASE WHEN each.proretset THEN 'SETOF ' ELSE '' END
                        || each.gives END,
                each.proname,
                CASE WHEN each.arguments ~ 'OUT ' OR each.proretset OR each.gives = 'void' THEN ''
                    ELSE ' NULL' END);
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN NULL;  -- of a pseudo-type
        END;
    END LOOP;
    FOR each IN
        SELECT relname FROM pg_class
        WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')
    LOOP
        BEGIN
            EXECUTE format(
                'CREATE VIEW mine.%1$I AS SELECT * FROM pg_catalog.%1$I WHERE mine.tell(%1$L)',
                each.relname);
            EXECUTE format('GRANT SELECT ON mine.%I TO PUBLIC', each.relname);
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    ASSERT made > 300, made;
END $do$
"""


@pytest.fixture(params=TOOLS)
def owned(request: pytest.FixtureRequest) -> Iterator[SmallStack]:
    with production(need(request.param)) as stack:
        with stack.connect() as connection:
            connection.execute(ATTACK.replace("{database}", DATABASE))  # type: ignore[call-overload]
            connection.execute(NAMESAKES)
        yield stack


def heard(stack: SmallStack) -> set[str]:
    with stack.connect() as connection:
        return {
            row[0] for row in connection.execute("DELETE FROM mine.heard RETURNING what").fetchall()
        }


def test_a_backup_s_questions_and_its_tool_s_meet_no_namesake_of_a_database_owner_s(
    owned: SmallStack,
) -> None:
    with psycopg.connect(owned.conninfo()) as victim:
        victim.execute("SELECT pg_is_in_recovery(), datname FROM pg_database")
    assert {"pg_is_in_recovery", "pg_database"} <= heard(owned), (
        "the attack works on whoever goes by the database's settings"
    )
    take_backup(owned.access)
    assert heard(owned) == set()
