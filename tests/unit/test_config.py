"""The configuration: every error names the file, the key and the hint, and no secret."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from pgdrill import config
from pgdrill.config import _dsn_keywords
from pgdrill.errors import ConfigError

FILE = Path("some/dr.toml")
GOOD: dict[str, Any] = {
    "clusters": {
        "agents": {
            "server": {"data_directory": "/pgdata", "dsn": "host=db user=pgdrill"},
            "repository": {"url": "s3://bucket/agents"},
        }
    }
}


def changed(section: str, **values: Any) -> dict[str, Any]:
    data = copy.deepcopy(GOOD)
    cluster = data["clusters"]["agents"]
    (cluster.setdefault(section, {}) if section else cluster).update(values)
    return data


def refused(data: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        config.parse(data, FILE)
    problem = caught.value.problem
    assert (problem.reason, problem.thing) == ("config-invalid", str(FILE))
    assert "pgdrill config check" in problem.hint
    return problem.found


def test_a_small_file_is_enough_and_the_cluster_knows_its_name() -> None:
    cluster = config.parse(GOOD, FILE).cluster("agents")
    assert cluster.name == "agents"
    assert cluster.state_directory == Path("/var/lib/pgdrill/agents")
    assert cluster.repository.tool == "wal-g"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(
            changed("server", data_dir="/x"),
            "[clusters.agents.server.data_dir] is no known key; did you mean data_directory?",
            id="an unknown key, with the one that was meant",
        ),
        pytest.param(
            changed("server", database=["agents"]),
            "[clusters.agents.server.database] is no known key; did you mean databases?",
            id="a key that another table has",
        ),
        pytest.param(
            changed("", qqqq=1),
            "[clusters.agents.qqqq] is no known key",
            id="an unknown key like no other",
        ),
        pytest.param({"cluster": GOOD["clusters"]}, "[clusters] is missing", id="an unknown table"),
        pytest.param(
            {"clusters": {"agents": {"repository": {"url": "s3://b/p"}}}},
            "[clusters.agents.server] is missing",
            id="a missing table",
        ),
        pytest.param({"clusters": {}}, "[clusters] holds no cluster", id="no cluster"),
        pytest.param({}, "[clusters] is missing", id="an empty file"),
        pytest.param(
            {"clusters": {"My-Cluster": GOOD["clusters"]["agents"]}},
            "[clusters.My-Cluster] is no cluster name",
            id="a name that cannot be a DAG id",
        ),
        pytest.param(
            changed("server", dsn="host"),
            "[clusters.agents.server.dsn] is no libpq connection string",
            id="a broken dsn",
        ),
        pytest.param(
            changed("repository", url="/backups"),
            "[clusters.agents.repository.url] must be s3://",
            id="a url without scheme",
        ),
        pytest.param(
            changed("repository", url="s3://"),
            "[clusters.agents.repository.url] must be s3://",
            id="a url without bucket",
        ),
        pytest.param(
            changed("repository", tool="walg"),
            "[clusters.agents.repository.tool] Input should be 'wal-g', "
            "'barman-cloud' or 'pgbackrest' (found 'walg')",
            id="an unknown tool",
        ),
        pytest.param(
            changed("repository", tool="barman-cloud", url="file:///b"),
            "[clusters.agents.repository] barman-cloud keeps backups in s3:// only",
            id="barman in a folder",
        ),
        pytest.param(
            changed("repository", compression="gzip"),
            "[clusters.agents.repository] wal-g cannot use compression 'gzip'; choose lz4, zstd,"
            " brotli",
            id="a compression wal-g has not",
        ),
        pytest.param(
            changed("repository", compression="none"),
            "wal-g cannot use compression 'none'",
            id="backups that wal-g could never read again",
        ),
        pytest.param(
            changed("repository", tool="barman-cloud", compression="zstd"),
            "barman-cloud cannot use compression 'zstd'; choose gzip, lz4, none",
            id="a compression barman has not",
        ),
        pytest.param(
            changed("drill", rto_seconds=0),
            "[clusters.agents.drill.rto_seconds] Input should be greater than 0 (found 0)",
            id="no time at all",
        ),
        pytest.param(
            changed("drill", durability="medium"),
            "[clusters.agents.drill.durability] Input should be 'full'",
            id="an unknown durability",
        ),
        pytest.param(
            changed("", vectors=[{"table": "items", "column": "v", "min_recall_at_10": 90}]),
            "[clusters.agents.vectors.0.min_recall_at_10] Input should be less than or equal to 1"
            " (found 90)",
            id="a share in percent",
        ),
        pytest.param(
            changed("", vectors=[{"table": "items"}]),
            "[clusters.agents.vectors.0.column] is missing",
            id="a vector column without its column",
        ),
    ],
)
def test_what_is_wrong_is_named_with_file_key_and_hint(data: dict[str, Any], words: str) -> None:
    assert words in refused(data)


def test_all_problems_are_named_at_once() -> None:
    found = refused(changed("drill", rto_seconds=-1, rpo_second=5))
    assert "[clusters.agents.drill.rto_seconds]" in found
    assert "[clusters.agents.drill.rpo_second] is no known key; did you mean rpo_seconds?" in found


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("server", "dsn", "host=db password=hunter2secret"),
        ("server", "dsn", "postgresql://pgdrill:hunter2secret@db/agents"),
        ("server", "dsn", "postgresql://pgdrill:hunter2secret%zz@db/agents"),
        ("server", "dsn", "host=db password=two hunter2secret"),
        ("repository", "url", "s3://AKIA:hunter2secret@bucket/prefix"),
        ("repository", "aws_secret_access_key", "hunter2secret"),
        ("server", "password", "hunter2secret"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_never_repeated(
    section: str, key: str, value: str
) -> None:
    found = refused(changed(section, **{key: value}))
    assert f"[clusters.agents.{section}.{key}]" in found
    assert "hunter2secret" not in found


def test_a_password_says_where_it_belongs() -> None:
    assert "PGPASSWORD" in refused(changed("server", dsn="host=db password=hunter2secret"))


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "dr.toml")
    problem = caught.value.problem
    assert (problem.reason, problem.thing) == ("config-missing", str(tmp_path / "dr.toml"))
    assert "No such file" in problem.found
    assert config.CONFIG_VARIABLE in problem.hint


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[clusters\n", "line 1"), (b'owner = "\xfc"\n', "utf-8")],
    ids=["a typing error", "Latin-1"],
)
def test_what_is_no_toml_says_where(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "dr.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    assert caught.value.problem.reason == "config-syntax"
    assert caught.value.problem.thing == str(file)
    assert words in caught.value.problem.found


def test_a_cluster_knows_where_the_others_of_its_host_work() -> None:
    data = copy.deepcopy(GOOD)
    others = {
        "repository": {"url": "s3://bucket/others"},
        "drill": {"work_directory": "/srv/pgdrill"},
    }
    data["clusters"]["others"] = copy.deepcopy(data["clusters"]["agents"]) | others
    for name in ("agents", "others"):
        assert set(config.parse(data, FILE).cluster(name).work_directories) == {
            Path("/var/lib/pgdrill"),
            Path("/srv/pgdrill"),
        }


def test_an_unknown_cluster_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"only agents.*\[clusters\.agent\] in some/dr\.toml"):
        config.parse(GOOD, FILE).cluster("agent")


def test_the_variable_wins_over_the_homes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "dr.toml").touch()
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.delenv(config.CONFIG_VARIABLE, raising=False)
    assert config.config_path() == tmp_path / "include" / "dr.toml"
    monkeypatch.setenv(config.CONFIG_VARIABLE, "/etc/pgdrill.toml")
    assert config.config_path() == Path("/etc/pgdrill.toml")


@pytest.mark.parametrize(
    ("dsn", "keywords"),
    [
        (r"host=db dbname='o\'brien \\ a=b'", {"host", "dbname"}),
        (r"host=a\ b user = 'x y'", {"host", "user"}),
        ("host=''user=x", {"host", "user"}),
        ("service=prod", {"service"}),
        ("", set()),
        ("postgresql://me@%2Fvar%2Frun/o%27brien?application_name=it%27s", {"application_name"}),
        ("postgresql://h1:1,h2:2/db?password=", {"password"}),
    ],
)
def test_a_dsn_is_read_as_libpq_reads_it(dsn: str, keywords: set[str]) -> None:
    assert _dsn_keywords(dsn) == keywords
    if not dsn.startswith("postgresql:"):
        assert conninfo_to_dict(dsn).keys() == keywords


def test_a_broken_dsn_is_refused_in_no_time() -> None:
    with pytest.raises(ValueError, match="no libpq connection string"):
        _dsn_keywords("a=b " * 2000 + "'")
    with pytest.raises(ValueError, match="no libpq connection string"):
        _dsn_keywords("a=b" + " " * 2000 + "'")


def several(**tables: Any) -> config.Settings:
    """A file with the good cluster and these tables beside it."""
    return config.parse({"clusters": {**copy.deepcopy(GOOD["clusters"]), **tables}}, FILE)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "[clusters.billing.server] is missing"),
        (
            {**GOOD["clusters"]["agents"], "drill": {"schedul": "x"}},
            "[clusters.billing.drill.schedul] is no known key; did you mean schedule?",
        ),
        (3, "[clusters.billing] Input should be"),
    ],
    ids=["an empty table", "a typing error", "no table"],
)
def test_a_cluster_that_is_wrong_costs_itself_alone(table: Any, words: str) -> None:
    settings = several(billing=table)
    assert settings.cluster("agents").name == "agents"
    assert (list(settings.clusters), list(settings.wrong), settings.names) == (
        ["agents"],
        ["billing"],
        ["agents", "billing"],
    )
    with pytest.raises(ConfigError) as caught:
        settings.cluster("billing")
    assert words in caught.value.problem.found
    assert "agents" not in caught.value.problem.found


def test_a_name_that_cannot_be_one_and_a_table_beside_the_clusters_cost_no_other_cluster() -> None:
    settings = several(**{"My-Cluster": GOOD["clusters"]["agents"]})
    assert "is no cluster name" in settings.wrong["My-Cluster"].problem.found
    settings = config.parse({**GOOD, "cluster": {"billing": {}}}, FILE)
    assert settings.wrong[""].problem.found == "[cluster] is no known key; did you mean clusters?"
    with pytest.raises(ConfigError) as caught:
        settings.cluster("billing")
    assert "did you mean clusters?" in caught.value.problem.found, (
        "the table is there, with a typing error in its name"
    )


def test_where_every_cluster_is_wrong_each_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse({"clusters": {"agents": {}, "billing": {}}}, FILE)
    assert "[clusters.agents.server] is missing" in caught.value.problem.found
    assert "[clusters.billing.server] is missing" in caught.value.problem.found


def with_places(mine: str, other: str, **more: Any) -> dict[str, ConfigError]:
    """What is wrong with clusters of these repositories, beside a third that is nobody's
    trouble."""

    def table(url: str, **repository: Any) -> dict[str, Any]:
        return {**GOOD["clusters"]["agents"], "repository": {"url": url, **repository}}

    clusters = {
        "agents": table(mine),
        "billing": table(other, **more),
        "third": table("s3://bucket/third"),
    }
    return config.parse({"clusters": clusters}, FILE).wrong


@pytest.mark.parametrize(
    ("mine", "other", "words"),
    [
        ("s3://backups/prod", "s3://backups/prod", "is cluster billing's place, too"),
        ("s3://backups/prod", "s3://backups/prod/", "is cluster billing's place, too"),
        ("s3://backups/prod", "S3://backups//prod", "is cluster billing's place, too"),
        ("file:///srv/backups", "FILE:///srv/x/../backups/.", "is cluster billing's place, too"),
        ("s3://backups/prod", "s3://backups", "lies in cluster billing's"),
        ("s3://backups/prod", "s3://backups/prod/billing", "has cluster billing's in it"),
        ("file:///srv", "file:///srv/backups", "has cluster billing's in it"),
    ],
)
def test_two_clusters_in_one_place_are_refused_and_both_are_named(
    mine: str, other: str, words: str
) -> None:
    wrong = with_places(mine, other)
    assert list(wrong) == ["agents", "billing"]
    assert f"[clusters.agents.repository.url] {words}" in wrong["agents"].problem.found
    assert "[clusters.billing.repository.url]" in wrong["billing"].problem.found
    assert "cluster agents's" in wrong["billing"].problem.found
    assert "prefix of its own" in wrong["agents"].problem.hint
    assert mine not in str(wrong["agents"]), "nothing of a URL is repeated"


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ("s3://backups/prod", "s3://backups/prod2"),
        ("s3://backups/prod", "s3://backup/prod"),
        ("s3://backups/prod", "s3://backups/Prod"),
        ("s3://srv/backups", "file:///srv/backups"),
    ],
)
def test_places_that_only_look_alike_are_two(mine: str, other: str) -> None:
    assert with_places(mine, other) == {}


def test_the_same_bucket_name_at_two_endpoints_is_two_stores() -> None:
    assert (
        with_places(
            "s3://backups/prod", "s3://backups/prod", endpoint_url="https://minio.example.org"
        )
        == {}
    )


def test_a_scheme_in_capitals_is_the_one_that_tools_know() -> None:
    assert (
        config.parse(changed("repository", url="S3://bucket/agents/"), FILE)
        .cluster("agents")
        .repository.url
        == "s3://bucket/agents"
    )
    assert "[clusters.agents.reports_url] must be s3://" in refused(
        changed("", reports_url="/reports")
    )


def test_reports_and_dumps_of_two_clusters_in_one_place_are_refused() -> None:
    clusters = {
        name: {
            **GOOD["clusters"]["agents"],
            "repository": {"url": f"s3://bucket/{name}"},
            "reports_url": "s3://reports/all",
            "dump": {"url": "s3://dumps/all/"},
        }
        for name in ("agents", "billing")
    }
    found = refused({"clusters": clusters})
    for words in (
        "[clusters.agents.reports_url] is cluster billing's place, too",
        "[clusters.billing.dump.url] is cluster agents's place, too",
    ):
        assert words in found
