"""A single table that is restored into production lends its owner nobody's rights but the restoring
role's, which has none to lend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from pgdrill.errors import ConfigError, PgdrillError
from pgdrill.logical.single_table import Allowed, restore_table
from tests.integration.logical.conftest import Source

HOME = "lost"
# Whoever evaluates it makes its author a superuser, and leaves a file, as far as his rights go.
STRANGER = """
CREATE FUNCTION mallory.act(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('COPY (SELECT 1) TO %L', '{canaries}/' || what);
        ALTER ROLE mallory SUPERUSER;
    END IF;
    RETURN true;
EXCEPTION WHEN OTHERS THEN RETURN true;
END $$;
CREATE FUNCTION mallory.yes(what text, v int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RETURN mallory.act(what); END $$;
CREATE FUNCTION mallory.sent(text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mallory.act('sql-as-text'); RETURN $1; END $$;
CREATE DOMAIN mallory.checked AS int CHECK (mallory.yes('domain', VALUE));
CREATE TABLE mallory.lost (
    id int CHECK (mallory.yes('check', id)),
    g boolean GENERATED ALWAYS AS (mallory.yes('generated', id)) STORED, d mallory.checked,
    CHECK (ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, mallory.sent(''a'')::tsquery')
        IS NOT NULL));
INSERT INTO mallory.lost (id, d) SELECT i, i FROM generate_series(1, 3) i;
CREATE INDEX ON mallory.lost (id) WHERE mallory.yes('predicate', id);
CREATE INDEX ON mallory.lost ((mallory.yes('expression', id)));
CREATE TABLE mallory.parted (id int) PARTITION BY LIST (id);
CREATE TABLE mallory.part PARTITION OF mallory.parted FOR VALUES IN (1);
ALTER TABLE mallory.part ADD CHECK (mallory.yes('partition', id));
INSERT INTO mallory.parted VALUES (1);
"""
SHADOWS = """
CREATE FUNCTION public.to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mallory.act('to_regclass'); RETURN NULL; END $$;
CREATE FUNCTION public.same(name, text) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mallory.act('same'); RETURN true; END $$;
CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.same);
"""


@dataclass
class Lost:
    """A database of a stranger's, whose tables were dumped and dropped."""

    source: Source
    canaries: Path

    def into(self, user: str) -> str:
        return f"host={self.source.home} user={user} dbname={HOME}"

    def sprung(self) -> list[str]:
        """What ran as a superuser."""
        return sorted(file.name for file in self.canaries.iterdir())

    def is_superuser(self) -> bool:
        return bool(
            self.source.sql(
                "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'", database="postgres"
            )[0][0]
        )


@pytest.fixture
def lost(source_server: Source) -> Iterator[Lost]:
    canaries = source_server.home / "canaries"
    canaries.mkdir()
    canaries.chmod(0o777)
    source_server.sql("CREATE ROLE mallory LOGIN", database="postgres")
    source_server.sql(f"CREATE DATABASE {HOME} OWNER mallory", database="postgres")
    source = source_server.with_(server={"databases": [HOME]})
    try:
        with psycopg.connect(
            f"host={source_server.home} user=mallory dbname={HOME}", autocommit=True
        ) as mallory:
            mallory.execute("CREATE SCHEMA mallory; GRANT USAGE, CREATE ON SCHEMA mallory TO app")
            mallory.execute(STRANGER.replace("{canaries}", str(canaries)))
        source.dump()
        with psycopg.connect(
            f"host={source_server.home} user=mallory dbname={HOME}", autocommit=True
        ) as mallory:
            mallory.execute("DROP TABLE mallory.lost, mallory.parted")
            mallory.execute(SHADOWS)
            mallory.execute(f"ALTER DATABASE {HOME} SET search_path = public, pg_catalog")
        yield Lost(source, canaries)
    finally:
        source_server.sql(f"DROP DATABASE {HOME} WITH (FORCE)", database="postgres")
        source_server.sql("DROP ROLE mallory", database="postgres")
        for file in canaries.iterdir():
            file.unlink()
        canaries.rmdir()


@pytest.mark.parametrize("table", ["mallory.lost", "mallory.parted"])
def test_a_superuser_is_refused_before_any_code_of_the_tables_owner_ran(
    lost: Lost, table: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        restore_table(lost.source.access, lost.into("postgres"), table)
    assert caught.value.problem.reason == "restores-as-superuser"
    assert "--as-superuser" in caught.value.problem.hint
    assert (lost.sprung(), lost.is_superuser()) == ([], False)


def test_so_is_whoever_may_become_one(lost: Lost) -> None:
    lost.source.sql("CREATE ROLE nearly LOGIN; GRANT postgres TO nearly", database="postgres")
    try:
        with pytest.raises(ConfigError) as caught:
            restore_table(lost.source.access, lost.into("nearly"), "mallory.lost")
        assert caught.value.problem.reason == "restores-as-superuser"
    finally:
        lost.source.sql("DROP ROLE nearly", database="postgres")
    assert lost.sprung() == []


def test_a_role_without_power_restores_it_and_is_told_whose_functions_ran_with_its_rights(
    lost: Lost,
) -> None:
    result = restore_table(lost.source.access, lost.into("app"), "mallory.lost")
    assert (result.rows, result.role) == (3, "app")
    assert "mallory.yes(text,integer)" in " ".join(result.code)
    assert lost.source.sql(
        "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'lost'", database=HOME
    ) == [("app",)]
    assert (lost.sprung(), lost.is_superuser()) == ([], False)


def test_by_no_setting_of_the_database_are_other_functions_found_than_postgresqls_own(
    lost: Lost,
) -> None:
    """Also as a superuser that is meant, and where nothing is restored in the end."""
    with pytest.raises(PgdrillError):
        restore_table(
            lost.source.access,
            lost.into("postgres"),
            "mallory.nothing",
            allowed=Allowed(as_superuser=True),
        )
    with pytest.raises(ConfigError):
        restore_table(lost.source.access, lost.into("postgres"), "mallory.lost")
    assert lost.sprung() == []


def test_asked_for_it_a_superuser_restores_and_what_the_owner_wrote_runs_with_its_rights(
    lost: Lost,
) -> None:
    """What the other tests do not see can be seen."""
    restore_table(
        lost.source.access,
        lost.into("postgres"),
        "mallory.lost",
        allowed=Allowed(as_superuser=True),
    )
    assert lost.is_superuser()
    assert {"check", "generated", "predicate", "expression", "domain", "sql-as-text"} <= set(
        lost.sprung()
    )
    assert not {"to_regclass", "same"} & set(lost.sprung())
