"""Productions that are set up in other ways than the sample are no damage: their drills pass, and
what a host lacks is told as that.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.baseline import Baseline, take_baseline
from pgdrill.drill import check_stage, destroy_stage, drill, new_drill_id, restore_stage
from pgdrill.logical.drill import drill_dump
from pgdrill.logical.take import take_dump
from pgdrill.postgres.sandbox_settings import AUTO_CONF_ASIDE
from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.equipped import LC_CTYPE_MASK, has_locale
from pgdrill.recovery.workspace import Workspace
from pgdrill.vectors.labels import Label
from pgdrill.verify import verify
from pgdrill_demo.stack import binaries, preferred_tool
from tests.conftest import need
from tests.damage.small import SmallStack
from tests.integration.worlds import drilled, healthy, production

LABEL = Label(model="made", version="1").line


@pytest.fixture(scope="module")
def plain() -> Iterator[SmallStack]:
    """Shared: each test takes away what it made."""
    with production(need(preferred_tool())) as stack:
        take_backup(stack.access)
        yield stack


def without_production(stack: SmallStack) -> Access:
    server = stack.cluster.server.model_copy(update={"dsn": f"host={stack.home}/gone"})
    return Access(stack.cluster.model_copy(update={"server": server}), stack.credentials)


def run(stack: SmallStack, *statements: str, database: str = "agents", **words: str) -> None:
    with psycopg.connect(stack.conninfo(database=database), autocommit=True, **words) as connection:  # type: ignore[arg-type]
        for one in statements:
            connection.execute(one)


# --- as large as production was ---


def test_limits_raised_since_the_base_backup_are_the_restored_servers_too() -> None:
    """Sixty prepared transactions and twenty-five replication origins, where the base backup knew
    of none, and PostgreSQL of ten.
    """
    raised = {
        "max_connections": "300",
        "max_worker_processes": "32",
        "max_wal_senders": "30",
        "max_prepared_transactions": "300",
        "max_locks_per_transaction": "256",
        "max_replication_slots": "60",
    }
    if binaries().major_version >= 18:
        raised["max_active_replication_origins"] = "60"
    with production(need(preferred_tool())) as stack:
        take_backup(stack.access)
        stack.primary.stop()
        stack.primary.options.update(raised)  # type: ignore[attr-defined]
        stack.primary.start()
        for number in range(60):
            run(
                stack,
                "BEGIN",
                f"CREATE TABLE prepared_{number} (n int)",
                f"PREPARE TRANSACTION 'p{number}'",
            )
        for number in range(25):
            run(
                stack,
                f"SELECT pg_replication_origin_create('o{number}')",
                f"SELECT pg_replication_origin_advance('o{number}', '0/1234')",
            )
        drilled(stack)
        # with the origins' states in it, and no WAL that tells of a limit
        take_backup(stack.access)
        report = drill(without_production(stack))
        assert report.restore.status == "ok", report.restore.trouble


# --- names ---


def test_a_cluster_without_a_database_postgres_whose_superuser_has_another_name_or_may_not_log_in() -> (  # noqa: E501
    None
):
    with production(need(preferred_tool())) as stack:
        run(stack, "DROP DATABASE postgres", "CREATE ROLE other SUPERUSER LOGIN PASSWORD 'other'")
        other = {"user": "other", "password": "other"}
        run(stack, 'ALTER ROLE postgres RENAME TO "Boss, the"', **other)
        take_backup(stack.access)
        drilled(stack)
        run(stack, 'ALTER ROLE "Boss, the" NOLOGIN', "ALTER ROLE other NOLOGIN", **other)
        drilled(stack)


def test_a_dot_in_a_schemas_name_is_no_end_of_it(plain: SmallStack) -> None:
    """The other table is what the name would be taken apart to."""
    run(
        plain,
        'CREATE SCHEMA "a.b"; CREATE SCHEMA a; GRANT USAGE ON SCHEMA "a.b", a TO pgdrill',
        'CREATE TABLE "a.b"."c.d" (id serial PRIMARY KEY, "x.y" text, v vector(3))',
        """INSERT INTO "a.b"."c.d" ("x.y", v) SELECT i, ARRAY[i, sin(i), 1]::vector
            FROM generate_series(1, 300) i""",
        'CREATE INDEX "i.j" ON "a.b"."c.d" USING hnsw (v vector_l2_ops)',
        f"""COMMENT ON COLUMN "a.b"."c.d".v IS '{LABEL}'""",
        'CREATE TABLE a."b.c.d" (id int PRIMARY KEY)',
    )
    changed = plain.cluster.drill.model_copy(update={"state_tables": ('"a.b"."c.d"', "docs")})
    access = Access(plain.cluster.model_copy(update={"drill": changed}), plain.credentials)
    try:
        report = drill(access)
        healthy(report)
        assert {one.thing for one in report.results if one.name == "state-tables"} == {
            'agents."a.b"."c.d"',
            "agents.public.docs",
        }
        take_dump(access)
        dumped = drill_dump(access)
        assert dumped.verdict == "passed", dumped.reason
    finally:
        run(plain, 'DROP SCHEMA "a.b" CASCADE; DROP SCHEMA a CASCADE')


def restored_both_ways(stack: SmallStack) -> None:
    """From a base backup and from a dump."""
    drilled(stack)
    take_dump(stack.access)
    report = drill_dump(stack.access)
    assert report.verdict == "passed", report.reason


def test_a_newline_in_an_indexs_name_is_found_in_a_dumps_list(plain: SmallStack) -> None:
    run(plain, 'CREATE INDEX "new\nline" ON docs USING hnsw (v vector_cosine_ops)')
    try:
        restored_both_ways(plain)
    finally:
        run(plain, 'DROP INDEX "new\nline"')


# --- settings and triggers ---


def test_quote_all_identifiers_and_a_trigger_on_login_change_nothing(plain: SmallStack) -> None:
    run(
        plain,
        "ALTER SYSTEM SET quote_all_identifiers = on",
        "SELECT pg_reload_conf()",
        "ALTER DATABASE agents SET quote_all_identifiers = on",
    )
    if binaries().major_version >= 17:
        run(
            plain,
            "CREATE TABLE audit (at timestamptz DEFAULT now(), who text); GRANT INSERT ON audit TO"
            " PUBLIC",
            "CREATE FUNCTION audit() RETURNS event_trigger SECURITY DEFINER LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO public.audit (who) VALUES (session_user); END $$",
            "CREATE EVENT TRIGGER audit ON login EXECUTE FUNCTION audit()",
            "ALTER EVENT TRIGGER audit ENABLE ALWAYS",
        )
    try:
        restored_both_ways(plain)
    finally:
        run(
            plain,
            "ALTER SYSTEM RESET quote_all_identifiers",
            "SELECT pg_reload_conf()",
            "ALTER DATABASE agents RESET quote_all_identifiers",
            "DROP EVENT TRIGGER IF EXISTS audit",
            "DROP FUNCTION IF EXISTS audit",
            "DROP TABLE IF EXISTS audit",
        )


# --- the tool's settings ---


def test_wal_g_without_files_metadata_and_with_metadata_beside_wal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need("wal-g")
    with production("wal-g") as stack:
        stack.primary.stop()
        stack.primary.environment["WALG_UPLOAD_WAL_METADATA"] = "INDIVIDUAL"  # type: ignore[index]
        stack.primary.start()
        monkeypatch.setenv("WALG_WITHOUT_FILES_METADATA", "true")
        name = take_backup(stack.access).name
        run(stack, "CREATE TABLE more AS SELECT 1", "SELECT pg_switch_wal()")
        drilled(stack)
        names = [file.name for file in (stack.s3.folder / stack.s3.bucket).rglob("*")]
        assert "files_metadata.json" not in names
        assert [one for one in names if re.fullmatch("[0-9A-F]{24}[.]json", one)]
        # What it does not list is missed all the same.
        part = next(
            file
            for file in (stack.s3.folder / stack.s3.bucket).rglob("part_001.tar*")
            if name in file.parts
        )
        part.unlink()
        report = drill(stack.access)
        assert (report.verdict, report.restore.trouble and report.restore.trouble.reason) == (
            "failed",
            "missing-part",
        )


# --- what this host lacks ---


def not_equipped(stack: SmallStack, access: Access, word: str) -> None:
    """Told before a byte was fetched, with production and without."""
    for server in ({}, {"dsn": f"host={stack.home}/gone"}):
        changed = access.cluster.server.model_copy(update=server)
        report = drill(
            Access(access.cluster.model_copy(update={"server": changed}), access.credentials)
        )
        assert report.restore.trouble
        assert (report.verdict, report.restore.trouble.reason) == (
            "could not verify",
            "host-not-equipped",
        )
        assert word in report.restore.trouble.found
        assert report.timings.fetch_seconds is None


def test_a_missing_library_of_an_extension_is_told_before_anything_is_fetched(
    plain: SmallStack, tmp_path: Path
) -> None:
    installed = tmp_path / "postgres"
    shutil.copytree(binaries().folder.parent, installed)
    for library in (installed / "lib").rglob("vector.*"):
        library.unlink()
    server = plain.cluster.server.model_copy(update={"bin_dir": installed / "bin"})
    not_equipped(
        plain,
        Access(plain.cluster.model_copy(update={"server": server}), plain.credentials),
        "vector",
    )


@pytest.fixture
def own_locale(tmp_path: Path) -> str:
    """A locale that only this folder has."""
    if not shutil.which("localedef") or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("no locale can be made here (Debian: package locales)")
    made = subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_XX.utf8"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode > 1:  # 1: warnings
        pytest.skip(f"no locale can be made here: {made.stderr[-200:]}")
    return "de_XX.utf8"


def test_a_missing_locale_is_told_before_anything_is_fetched(
    own_locale: str, tmp_path: Path
) -> None:
    assert not has_locale(LC_CTYPE_MASK, own_locale)
    with production(need(preferred_tool())) as stack:
        stack.primary.stop()
        stack.primary.environment["LOCPATH"] = str(tmp_path)  # type: ignore[index]
        for folder in (tmp_path, *tmp_path.rglob("*")):
            folder.chmod(0o755 if folder.is_dir() else 0o644)
        stack.primary.start()
        run(stack, f"CREATE DATABASE german TEMPLATE template0 LOCALE '{own_locale}'")
        take_backup(stack.access)
        not_equipped(stack, stack.access, f"locale {own_locale} of database german")
        # Nobody asks of that database: then this host will do.
        server = stack.cluster.server.model_copy(update={"databases": ("agents",)})
        healthy(
            drill(Access(stack.cluster.model_copy(update={"server": server}), stack.credentials))
        )
        assert os.environ.get("LOCPATH") is None
        assert sys.getfilesystemencoding() == "utf-8"


# --- what stands in no hashed row of a catalog ---


def after(
    stack: SmallStack, damage: Callable[[LocalServer], None], *families: str, target: str = "latest"
) -> dict[str, list[str]]:
    """What a drill finds red, with the copy damaged between its restore and its checks."""
    access, drill_id = stack.access, new_drill_id()
    try:
        assert (
            restore_stage(access, drill_id, target=target, hand_over=False).restore.status == "ok"
        )
        damage(Workspace.of(access, drill_id).server(access))
        report = check_stage(access, drill_id, families=families, hand_over=False)
    finally:
        destroy_stage(access, drill_id)
    found: dict[str, list[str]] = {}
    for one in report.results:
        if one.status == "fail":
            found.setdefault(one.name, []).append(
                f"{one.thing}: {one.value}, wanted {one.threshold}"
            )
    return found


def statements(*texts: str) -> Callable[[LocalServer], None]:
    def damage(server: LocalServer) -> None:
        with server.connect("agents") as connection:
            for text in texts:
                connection.execute(text)

    return damage


def test_a_sequence_that_nobody_owns_any_more_and_a_function_that_left_its_extension(
    plain: SmallStack,
) -> None:
    run(plain, "CREATE TABLE numbered (id bigserial)", "CREATE EXTENSION IF NOT EXISTS pg_trgm")
    try:
        assert not after(plain, statements(), "schema")
        found = after(
            plain,
            statements(
                "ALTER SEQUENCE numbered_id_seq OWNED BY NONE",
                "ALTER EXTENSION pg_trgm DROP FUNCTION similarity(text, text)",
            ),
            "schema",
        )
        assert sorted(
            one.partition(": wanted")[0].partition(", wanted")[0] for one in found["catalogs"]
        ) == [
            "agents: what owns function public.similarity(text,text): missing",
            "agents: what owns sequence public.numbered_id_seq: missing",
        ]
    finally:
        run(plain, "DROP TABLE numbered", "DROP EXTENSION pg_trgm")


def test_an_ivfflat_index_built_with_other_lists_than_productions(plain: SmallStack) -> None:
    """Production's own second index has other options than it was built with: that is its state,
    and no alarm.
    """
    rebuilt = (
        "ALTER INDEX ivf SET (lists = 3)",
        "REINDEX INDEX ivf",
        "ALTER INDEX ivf SET (lists = 20)",
    )
    run(
        plain,
        "CREATE INDEX ivf ON docs USING ivfflat (v vector_l2_ops) WITH (lists = 20)",
        "CREATE INDEX ivf_later ON docs USING ivfflat (v vector_l2_ops) WITH (lists = 20)",
        "ALTER INDEX ivf_later SET (lists = 30)",
    )
    try:
        assert not after(plain, statements(*rebuilt), "search"), (
            "not in the record of the backup: not asked"
        )
        take_backup(plain.access)
        assert not after(plain, statements(), "search")
        found = after(plain, statements(*rebuilt), "search")
        assert found == {
            "index-coverage": [
                "agents: public.ivf: built with lists = 3, wanted lists = 20, as on production"
            ]
        }
        # since the backup
        run(plain, "ALTER INDEX ivf_later SET (lists = 40)", "REINDEX INDEX ivf_later")
        assert not after(plain, statements(), "search")
    finally:
        run(plain, "DROP INDEX ivf, ivf_later")


def test_settings_in_files_are_productions(plain: SmallStack) -> None:
    """A server that goes by another file is seen by `verify`, and a file that was changed in the
    backup by a drill.
    """
    baseline = take_baseline(plain.access)
    assert baseline.by_file is not None
    dsn = f"host={plain.home} user=postgres dbname=agents"

    def seen(known: Baseline = baseline) -> dict[str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGPASSWORD", plain.passwords["postgres"])
            found = verify(
                plain.access, dsn, families=("recovery",), baseline=known, as_superuser=True
            )
        return {
            one.thing: one.status
            for one in found.results
            if one.name == "recovery-leftovers" and one.status in ("warn", "fail")
        }

    assert seen() == {}
    try:
        run(
            plain,
            "ALTER SYSTEM SET session_replication_role = replica",
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "ALTER SYSTEM SET statement_timeout = '1h'",
            "SELECT pg_reload_conf()",
        )
        assert seen() == {
            "session_replication_role": "fail",
            "default_transaction_read_only": "fail",
            "statement_timeout": "warn",
        }
        with plain.connect() as connection:  # production's own state is no alarm
            assert connection.execute("SHOW session_replication_role").fetchone() == ("replica",)
        run(
            plain,
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
            options="-c default_transaction_read_only=off",
        )
        assert seen(take_baseline(plain.access)) == {}
    finally:
        run(
            plain,
            "ALTER SYSTEM RESET ALL",
            "SELECT pg_reload_conf()",
            options="-c default_transaction_read_only=off",
        )

    def change(server: LocalServer) -> None:
        aside = server.data_directory.parents[1] / "conf" / AUTO_CONF_ASIDE
        aside.write_text(
            "session_replication_role = replica\nstatement_timeout ="
            " '1h'\ndefault_transaction_read_only = yes\n"
        )

    found = after(plain, change, "recovery")
    assert [one.partition(" in postgresql")[0] for one in found["recovery-leftovers"]] == [
        "session_replication_role",
        "default_transaction_read_only",
    ], found
