"""The configuration that ``pgdrill init`` writes: valid, never over another, and without a
secret."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from pgdrill.cli.first_config import (
    FirstCluster,
    check_name,
    compose,
    is_example,
    keep,
    without_secrets,
)
from pgdrill.config import load
from pgdrill.errors import ConfigError

PROJECT = Path(__file__).parents[3]
SECRET = "pass-word-4711"
NEW = FirstCluster(
    name="sales",
    dsn="host=db.example dbname=sales user=pgdrill",
    data_directory=Path('/srv/pg "main"'),
    bin_dir=Path("/usr/lib/postgresql/17/bin"),
    repository="s3://bucket/sales",
    tool="wal-g",
    work_directory=Path("/var/lib/pgdrill"),
    superuser="Ünï",
    system_identifier=7412345678901234567,
    found_databases=("sales", "a\n[clusters.evil]"),
)


def write(file: Path, cluster: FirstCluster = NEW) -> Path | None:
    check_name(file, cluster.name)
    return keep(file, compose(file, cluster)[0])


def test_what_was_found_is_what_the_file_means(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "dr.toml"
    assert write(file) is None
    settings = load(file)
    assert (settings.names, settings.wrong) == (["sales"], {})
    server = settings.cluster("sales").server
    assert (server.dsn, server.data_directory, server.bin_dir) == (
        NEW.dsn,
        NEW.data_directory,
        NEW.bin_dir,
    )
    assert (server.superuser, server.system_identifier, server.databases) == (
        "Ünï",
        7412345678901234567,
        (),
    )


def test_a_second_cluster_is_added_and_the_first_stays_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "dr.toml"
    write(file)
    file.write_text(file.read_text() + "# a person's own remark")
    file.chmod(0o640)
    write(file, dataclasses.replace(NEW, name="other", repository="s3://bucket/other"))
    assert load(file).names == ["other", "sales"]
    assert "# a person's own remark\n\n[clusters.other.server]" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_cluster_that_is_there_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    file = tmp_path / "dr.toml"
    write(file)
    before = file.read_text()
    with pytest.raises(ConfigError, match="give another name"):
        write(file)
    assert file.read_text() == before
    assert [one.name for one in tmp_path.iterdir()] == ["dr.toml"]


def test_a_place_in_the_store_that_is_anothers_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dr.toml"
    write(file)
    with pytest.raises(ConfigError, match="place"):
        write(file, dataclasses.replace(NEW, name="other"))


def test_the_projects_example_is_put_aside_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "dr.toml"
    example = (PROJECT / "include" / "dr.toml").read_text()
    file.write_text(example)
    assert is_example(file)
    aside = write(file, dataclasses.replace(NEW, name="agents"))
    assert aside == tmp_path / "dr.toml.example"
    assert aside.read_text() == example
    assert load(file).cluster("agents").repository.url == NEW.repository


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    link = tmp_path / "dr.toml"
    link.symlink_to(tmp_path / "etc" / "real.toml")
    write(link)
    assert link.is_symlink()
    assert load(link).names == ["sales"]


@pytest.mark.parametrize(
    "dsn",
    [
        f"host=db password={SECRET} dbname=agents",
        f"postgresql://me:{SECRET}@db:5433/agents?sslmode=require",
        f"postgresql://db/agents?user=me&password={SECRET}",
        f"host=db sslpassword='{SECRET}'",
    ],
)
def test_a_secret_is_parted_from_the_connection_string(dsn: str) -> None:
    words, secret = without_secrets(dsn)
    assert SECRET not in str(words)
    assert list(secret.values()) == [SECRET]
    assert words["host"] == "db"


@pytest.mark.parametrize(
    "wrong",
    [
        {"repository": f"s3://key:{SECRET}@bucket/p"},
        {"endpoint_url": f"https://me:{SECRET}@store.example"},
        {"tool": "pg_dump"},
        {"name": "Not-A-Name"},
        {"tool": "barman-cloud", "repository": "file:///srv/backups"},
    ],
    ids=str,
)
def test_what_would_be_wrong_in_the_file_is_refused_before_it_is_written(
    tmp_path: Path, wrong: dict[str, str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        write(tmp_path / "dr.toml", dataclasses.replace(NEW, **wrong))  # type: ignore[arg-type]
    assert SECRET not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_connection_string_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as refused:
        without_secrets(f"postgresql://me:{SECRET}@[db/agents")
    assert SECRET not in str(refused.value)


def test_a_file_that_is_no_toml_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "dr.toml"
    file.write_text("[clusters")
    with pytest.raises(ConfigError, match="correct it"):
        write(file)
    assert file.read_text() == "[clusters"


def test_the_text_is_toml_whatever_the_names(tmp_path: Path) -> None:
    tables = tomllib.loads(compose(tmp_path / "dr.toml", NEW)[0])
    assert list(tables["clusters"]) == ["sales"]
