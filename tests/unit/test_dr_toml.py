"""include/dr.toml is valid as it is, and keeps in step with the models."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic_core import PydanticUndefined

from pgdrill import config

FILE = Path(__file__).parents[2] / "include" / "dr.toml"
TEXT = FILE.read_text()
# What a commented line would set: `# key = value` and `# [[table]]`; prose never looks like that.
UNCOMMENTED = re.sub(r"^# (?=\w+ = |\[)", "", TEXT, flags=re.MULTILINE)
EXAMPLES = {
    "server.dsn",
    "server.conn_id",
    "server.databases",
    "repository.conn_id",
    "server.system_identifier",
    "dump.databases",
}


def sections() -> dict[str, type[config.Section]]:
    """The tables of a cluster by name, found in the models so that a new one is not forgotten."""
    found: dict[str, type[config.Section]] = {"": config.Cluster}
    for name, field in config.Cluster.model_fields.items():
        if field.exclude:  # set from other tables
            continue
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, config.Section):
                found[name] = kind
    return found


def shown(section: str) -> dict[str, Any]:
    cluster = tomllib.loads(UNCOMMENTED)["clusters"]["agents"]
    table = (
        cluster[section] if section else {k: v for k, v in cluster.items() if k not in sections()}
    )
    return dict(table[0] if isinstance(table, list) else table)


FIELDS = [
    pytest.param(section, name, id=f"{section or 'cluster'}.{name}")
    for section, model in sections().items()
    for name in model.model_fields
    if name not in sections() and not model.model_fields[name].exclude
]


def test_it_is_valid_as_it_is() -> None:
    assert sorted(config.load(FILE).clusters) == ["agents"]


def test_it_is_valid_with_every_comment_taken_away() -> None:
    cluster = config.parse(tomllib.loads(UNCOMMENTED), FILE).cluster("agents")
    assert len(cluster.vectors) == 1


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_key_is_there_with_its_default(section: str, name: str) -> None:
    field = sections()[section].model_fields[name]
    values = shown(section)
    assert name in values, f"{name} is missing in the file"
    if field.default is PydanticUndefined or f"{section}.{name}" in EXAMPLES:
        return
    as_toml = {Path: str, tuple: list}
    default = next(
        (made(field.default) for kind, made in as_toml.items() if isinstance(field.default, kind)),
        field.default,
    )
    assert values[name] == default


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_key_has_a_comment_above_it(section: str, name: str) -> None:
    lines = TEXT.splitlines()
    several = {name: f"# [[clusters.agents.{name}]]" for name in ("vectors", "deviations")}
    head = {"": "[clusters.agents]", **several}.get(section, f"[clusters.agents.{section}]")
    own = next(
        n for n in range(lines.index(head), len(lines)) if re.match(rf"(# )?{name} = ", lines[n])
    )
    above = lines[own - 1]
    if section == "vectors" and name in ("table", "column"):
        return  # the example's own two lines, explained above it
    assert above.startswith("# "), f"no comment above {lines[own]!r}"
    assert not re.match(r"# \w+ = ", above)


def test_the_tables_of_alerts_are_examples_that_are_right() -> None:
    data = tomllib.loads(UNCOMMENTED)
    settings = config.parse(data, FILE)
    assert settings.wrong == {}
    assert [one.name for one in settings.alerts.channels] == ["oncall"]
    assert [one.name for one in settings.alerts.pings] == ["ping agents-archiver"]
    fields = type(settings.alerts).model_fields
    assert {*data["alerts"]} == {*fields}
    lists = {"channels", "pings"}
    assert {name: data["alerts"][name] for name in fields if name not in lists} == {
        name: field.default for name, field in fields.items() if name not in lists
    }


def test_the_table_of_a_queue_is_an_example_with_every_key_and_its_default() -> None:
    data = tomllib.loads(UNCOMMENTED)
    settings = config.parse(data, FILE)
    assert settings.wrong == {}
    assert [one.name for one in settings.cluster("agents").queues] == ["jobs"]
    fields = {name: one for name, one in config.Queue.model_fields.items() if not one.exclude}
    assert {*data["queues"]["jobs"]} == {*fields}
    for name, field in fields.items():
        if field.default is not PydanticUndefined:
            value = data["queues"]["jobs"][name]
            assert (tuple(value) if isinstance(value, list) else value) == field.default, name


def test_the_table_of_the_watch_is_there_with_its_defaults() -> None:
    data = tomllib.loads(UNCOMMENTED)["watch"]
    fields = config.Watch.model_fields
    assert data == {name: field.default for name, field in fields.items()}


def test_it_holds_no_key_that_the_models_do_not_know() -> None:
    for section, model in sections().items():
        assert set(shown(section)) <= set(model.model_fields)
