"""What a person reads: on narrow terminals, of an empty repository, of another cluster's backup,
and after a mistyped name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.backup import take_backup
from pgdrill.drill import drill
from pgdrill.logical.drill import drill_dump
from pgdrill.logical.take import take_dump
from pgdrill_demo.stack import preferred_tool
from tests.damage.small import SmallStack
from tests.integration.worlds import healthy, production

FIGURE = re.compile(r"\d[\d.]* (?:[kMG]?B|Bytes|s|min|h|days?|hours?|segments?)\b")
STRANGER = "7000000000000000001"
HINT = re.compile(r"`(pgdrill [^`]+)`")


@pytest.fixture(scope="module")
def world() -> Iterator[SmallStack]:
    """Two base backups, a drill, a dump and its drill."""
    with production(preferred_tool()) as stack:
        take_backup(stack.access)
        take_backup(stack.access)
        healthy(drill(stack.access))
        take_dump(stack.access)
        assert drill_dump(stack.access).verdict == "passed"
        yield stack


def pgdrill(
    stack: SmallStack,
    words: str,
    *,
    columns: int = 80,
    config: Path | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it, in a terminal of that width."""
    known = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "AWS_", "WALG_"))
    }
    mine = {
        "PGDRILL_CONFIG": str(config or stack.config_file),
        "PGUSER": "pgdrill",
        "PGPASSWORD": stack.passwords["pgdrill"],
        "COLUMNS": str(columns),
    }
    code = "from pgdrill.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *shlex.split(words)],
        env={**known, **stack.s3.environment, **mine, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


TABLES = [
    "backups",
    "window",
    "prune",
    "dumps",
    "report --list",
    "forecast rto --no-probe",
    "label agents",
]


@pytest.mark.parametrize("words", TABLES)
def test_no_name_time_or_figure_is_broken_on_a_narrow_terminal(
    world: SmallStack, words: str
) -> None:
    names = [backup.name for backup in world.access.repository.backups()]
    wide = pgdrill(world, words, columns=200)
    assert wide.returncode == 0, wide.stderr
    for columns in (60, 80):
        narrow = pgdrill(world, words, columns=columns)
        assert narrow.returncode == 0, narrow.stderr
        for name in names:
            assert narrow.stdout.count(name) >= (name in wide.stdout), (
                f"{name} is broken:\n{narrow.stdout}"
            )
        assert not [
            line
            for line in narrow.stdout.splitlines()
            if re.fullmatch(r"\s*\S{0,5}\s*", line)
            and line.strip()
            and line.strip() not in wide.stdout.split()
        ], narrow.stdout
    if words == "backups":  # sizes do not change between two looks
        assert all(found in narrow.stdout for found in FIGURE.findall(wide.stdout))


def test_on_a_terminal_that_knows_ascii_alone_the_window_is_drawn_in_ascii(
    world: SmallStack,
) -> None:
    shown = pgdrill(
        world,
        "window",
        LC_ALL="C",
        PYTHONIOENCODING="ascii",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.isascii()
    assert re.search(r"\.+=+ now", shown.stdout)


def test_a_young_repository_is_told_to_be_young_and_not_that_anything_lacks(
    world: SmallStack,
) -> None:
    shown = " ".join(pgdrill(world, "prune", columns=140).stdout.split())
    assert "nothing would go" in shown
    assert re.search(
        r"every instant since \S+ \S+ UTC, from \S+; it grows by itself until \d{4}-\d\d-\d\d",
        shown,
    )
    assert not re.search(r"\b1 (?:backups|weeks|months|segments)\b", shown)


def test_a_name_that_is_not_there_and_a_plan_that_was_never_made_are_refused(
    world: SmallStack,
) -> None:
    unknown = pgdrill(world, "prune --also 00000005")
    assert (unknown.returncode, "no-such-name" in unknown.stderr) == (2, True)
    (command,) = HINT.findall(" ".join(unknown.stderr.split()))
    assert pgdrill(world, command.removeprefix("pgdrill ")).returncode == 0
    changed = pgdrill(world, "prune --apply --plan 3f9a")
    assert (
        changed.returncode,
        "plan-changed" in changed.stderr,
        "a plan by which nothing goes" in changed.stderr,
    ) == (2, True, True)
    assert pgdrill(world, "prune --apply").returncode == 0


def test_the_window_of_an_empty_repository_says_the_next_step(
    world: SmallStack, tmp_path: Path
) -> None:
    text = world.config_file.read_text().replace(f'/{world.cluster_name}"\ntool', '/empty"\ntool')
    (tmp_path / "dr.toml").write_text(
        re.sub(r'work_directory = ".*"', f'work_directory = "{tmp_path}/work"', text)
    )
    shown = pgdrill(world, "window", config=tmp_path / "dr.toml")
    assert shown.returncode == 2
    assert "nothing can be restored" in shown.stdout
    assert "timeline 0" not in shown.stdout
    assert "`pgdrill backup`" in shown.stderr


@contextlib.contextmanager
def strange(world: SmallStack, number: int) -> Iterator[tuple[str, str]]:
    """A backup says that it is another cluster's: its name, and the identifier of the server."""
    folder = world.s3.folder / world.s3.bucket / world.cluster_name
    files = sorted(
        one
        for one in folder.rglob("*")
        if one.name == "backup.info" or one.name.endswith("sentinel.json")
    )
    names = sorted(backup.name for backup in world.access.repository.backups())
    kept = files[number].read_text()
    with world.connect() as connection:
        (identifier,) = connection.execute(
            "SELECT system_identifier::text FROM pg_control_system()"
        ).fetchone()
    files[number].write_text(kept.replace(identifier, STRANGER))
    try:
        yield names[number], identifier
    finally:
        files[number].write_text(kept)


def without_server(world: SmallStack, folder: Path, more: str = "") -> Path:
    """The same configuration, with nobody where the server should be."""
    lines = [
        f'dsn = "host={folder} port=5432 user=pgdrill"' if line.startswith("dsn") else line
        for line in world.config_file.read_text().splitlines()
    ]
    (folder / "dr.toml").write_text(
        "\n".join(lines).replace("[clusters.agents.server]", f"[clusters.agents.server]\n{more}")
    )
    return folder / "dr.toml"


@pytest.mark.parametrize(
    "number", [0, 1], ids=["older than the good one", "newer than the good one"]
)
def test_the_window_follows_the_server_s_own_backups_beside_another_cluster_s(
    world: SmallStack, number: int
) -> None:
    with strange(world, number) as (stranger, identifier):
        shown = pgdrill(world, "window", columns=60)
        assert shown.returncode == 0, shown.stderr
        assert "from 1 base backup" in shown.stdout, (
            "the good one counts, though nothing is configured"
        )
        told = next(line for line in shown.stdout.splitlines() if "does not count" in line)
        assert all(word in told for word in (stranger, STRANGER, identifier))
        followed = pgdrill(world, hint_of(shown.stdout), columns=200)
        assert followed.returncode == 0, followed.stderr
        assert re.search(rf"{stranger} \(backup, .*another cluster's", followed.stdout), (
            "it stays until it is old enough, and that is said"
        )
        listed = pgdrill(world, "backups")
        assert (listed.returncode, stranger in listed.stderr, STRANGER in listed.stderr) == (
            0,
            True,
            True,
        )
        assert [one["own"] for one in json.loads(pgdrill(world, "backups --json").stdout)] == [
            number != 0,
            number != 1,
        ]
    assert "does not count" not in pgdrill(world, "window").stdout


@pytest.mark.parametrize(
    "number", [0, 1], ids=["older than the good one", "newer than the good one"]
)
def test_without_server_and_identifier_nobody_s_backup_is_taken_for_the_cluster_s(
    world: SmallStack, tmp_path: Path, number: int
) -> None:
    with strange(world, number) as (stranger, identifier):
        config = without_server(world, tmp_path)
        for words in ("window", "backups", "prune", "forecast rto --no-probe", "drill --json"):
            shown = pgdrill(world, words, config=config, columns=200)
            told = " ".join((shown.stdout + shown.stderr).split())
            assert shown.returncode == 2, f"{words}: {told}"
            for word in (
                f"`system_identifier = {identifier}`",
                f"`system_identifier = {STRANGER}`",
                "[clusters.agents.server]",
                "whose-backups",
            ):
                assert word in told, f"{words}: {word} is not in {told}"
        assert "nothing can be restored" not in pgdrill(world, "window", config=config).stdout, (
            "something can, by whoever knows"
        )
        # as the hint says
        config = without_server(world, tmp_path, f"system_identifier = {identifier}")
        shown = pgdrill(world, "window", config=config)
        assert "from 1 base backup" in shown.stdout
        (data,) = json.loads(pgdrill(world, "window --json", config=config).stdout)
        assert [one["name"] for one in data["left_out"]] == [stranger]


def test_a_repository_with_none_but_another_cluster_s_backups_is_not_the_cluster_s(
    world: SmallStack,
) -> None:
    with strange(world, 0), strange(world, 1):
        for words in ("window", "backups"):
            shown = pgdrill(world, words, columns=200)
            assert (shown.returncode, "only-strangers" in shown.stderr) == (2, True), shown.stderr
            assert "`pgdrill backup agents`" in shown.stderr


def hint_of(text: str) -> str:
    """The command that a hint names, to be run."""
    return HINT.findall(text.split("hint: ")[1].splitlines()[0])[0].removeprefix("pgdrill ")  # type: ignore[no-any-return]


def test_a_role_that_may_not_read_pages_gets_the_statements_that_grant_it(
    world: SmallStack,
) -> None:
    words = (
        f"verify agents --check search --json --dsn 'host={world.home} port=5432 user=pgdrill"
        " dbname=agents'"
    )

    def answered() -> dict[str, str]:
        (found,) = [
            one
            for one in json.loads(pgdrill(world, words).stdout)["results"]
            if one["name"] == "index-values"
        ]
        return found  # type: ignore[no-any-return]

    lacking = answered()
    assert lacking["status"] == "skip"
    assert "\\n" not in lacking["message"]
    assert "\n" not in lacking["message"]
    statements = re.findall(r"`([^`]+)`", lacking["hint"])
    with world.connect() as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]
    try:
        assert answered()["status"] == "pass"
    finally:
        with world.connect() as connection:
            for statement in statements:
                connection.execute(statement.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))  # type: ignore[call-overload]


def test_a_dump_and_its_drill_log_no_line_a_table_and_no_warning_where_nothing_is_wrong(
    world: SmallStack,
) -> None:
    with world.connect() as connection:
        connection.execute(
            "DO $$ BEGIN FOR n IN 1..40 LOOP EXECUTE format('CREATE TABLE many_%s (id int)', n);"
            " END LOOP; END $$"
        )
    taken = pgdrill(world, "dump agents")
    assert taken.returncode == 0, taken.stderr
    assert len(taken.stderr.splitlines()) < 12, taken.stderr
    drilled = pgdrill(world, "drill agents --dump LATEST")
    assert drilled.returncode == 0, drilled.stderr
    assert "WARNING" not in drilled.stderr
    assert re.search(r"INFO +pass model-label: docs\.v: made@1", drilled.stderr), (
        "name, thing and answer apart"
    )


def test_a_list_that_was_written_as_a_text_is_told_as_it_has_to_be(
    world: SmallStack, tmp_path: Path
) -> None:
    text = world.config_file.read_text()
    (tmp_path / "dr.toml").write_text(
        text.replace('dbname=agents"', 'dbname=agents"\ndatabases = "agents"')
    )
    told = pgdrill(world, "config check", config=tmp_path / "dr.toml", columns=200)
    assert told.returncode == 2
    (example,) = re.findall(r"for example (databases = \S+)", told.stderr)
    (tmp_path / "dr.toml").write_text(text.replace('dbname=agents"', f'dbname=agents"\n{example}'))
    assert pgdrill(world, "config check", config=tmp_path / "dr.toml").returncode == 0
