"""Commands and options by the names that they had: they work, and say until when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pgdrill.access import Access
from pgdrill.cli import app, dump
from pgdrill.cli import doctor as doctor_command
from pgdrill.cli.dump import Chosen
from pgdrill.renamed import TAKEN_UNTIL

CLUSTER = """
[clusters.{name}.server]
data_directory = "{home}/pgdata"
[clusters.{name}.repository]
url = "file://{home}/{name}-backups"
binary = "/bin/true"
[clusters.{name}.drill]
work_directory = "{home}/work"
"""
UNTIL = f"the old name is taken until version {TAKEN_UNTIL}"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Chosen]]:
    """What restores of dumps were asked for, of which cluster."""
    file = tmp_path / "dr.toml"
    file.write_text("".join(CLUSTER.format(name=name, home=tmp_path) for name in ("a", "b")))
    monkeypatch.setenv("PGDRILL_CONFIG", str(file))
    seen: list[tuple[str, Chosen]] = []

    def restore(session: Any, access: Access, chosen: Chosen, as_json: bool) -> int:
        seen.append((access.cluster.name, chosen))
        return 0

    monkeypatch.setattr(dump, "restore_and_check", restore)
    return seen


def said(*words: str) -> str:
    """What the command says on stderr, having done what it was asked for."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("drill", "b", "--from", "dump"), ("drill", "b", "--dump", "LATEST")),
        (("drill", "b", "--from", "dump", "--backup", "d1"), ("drill", "b", "--dump", "d1")),
        (
            ("migrate", "/srv/m", "--cluster", "b", "--from-dump", "d1"),
            ("migrate", "b", "--migrations", "/srv/m", "--dump", "d1"),
        ),
        (
            ("migrate", "--migrations", "/srv/m", "--cluster", "b"),
            ("migrate", "b", "--migrations", "/srv/m"),
        ),
    ],
    ids=" ".join,
)
def test_old_options_ask_for_the_same_and_say_until_when(
    asked: list[tuple[str, Chosen]], old: tuple[str, ...], new: tuple[str, ...]
) -> None:
    assert UNTIL in said(*old)
    assert said(*new) == ""
    assert asked[0] == asked[1]
    assert asked[0][0] == "b"


@pytest.mark.parametrize(("old", "new"), [("dump take", "dump"), ("dump restore", "restore-table")])
def test_old_commands_are_the_new_ones_and_say_until_when(old: str, new: str) -> None:
    warned = said(*old.split(), "--help")
    assert f"pgdrill {old} is now pgdrill {new}; {UNTIL}" in warned
    shown, now = (CliRunner().invoke(app, [*it.split(), "--help"]).stdout for it in (old, new))
    assert shown == now


def test_doctor_calls_the_job_prune_and_still_knows_retention(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor_command._jobs(["backup", "retention"]) == ["backup", "prune"]
    assert f"--for retention is now --for prune; {UNTIL}" in capsys.readouterr().err


def test_no_help_shows_an_old_name() -> None:
    for command in ("drill", "migrate", "init", "dump"):
        shown = CliRunner().invoke(app, [command, "--help"]).stdout
        assert not {"--from", "--cluster", "--from-dump"} & set(shown.split()), shown


def test_a_migration_without_a_folder_is_asked_for_one(asked: list[tuple[str, Chosen]]) -> None:
    result = CliRunner().invoke(app, ["migrate"])
    assert result.exit_code == 2
    assert "--migrations" in result.stderr
