"""Your own SQL files: what a header may say, and that one that is misread is never taken for
another.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill import config
from pgdrill.checks.custom_sql import Expectation, parse_file, read_checks
from pgdrill.errors import ConfigError

GOOD = "-- name: orders-have-lines\n-- expect: no rows\n"
EXAMPLES = Path(__file__).parents[3] / "include" / "pgdrill_demo" / "checks"


def written(folder: Path, text: str, name: str = "one.sql") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def expectation(folder: Path, words: str) -> Expectation:
    return parse_file(written(folder, f"-- name: x\n-- expect: {words}\nSELECT 1")).expect


def test_a_header_is_read_with_its_defaults(tmp_path: Path) -> None:
    found = parse_file(
        written(
            tmp_path, f"-- Prose: with a colon.\n\n{GOOD}\nSELECT 1 -- name is what it is\n  FROM t"
        )
    )
    assert (found.name, found.database, found.severity, found.timeout, found.hint) == (
        "orders-have-lines",
        "",
        "fail",
        None,
        "",
    )
    assert found.statement == "SELECT 1 -- name is what it is\n  FROM t"


def test_every_key_is_read(tmp_path: Path) -> None:
    found = parse_file(
        written(
            tmp_path,
            f"{GOOD}--database: agents\n-- severity : warn\n-- timeout: 2 min\n-- hint: see:"
            " there\nSELECT 1",
        )
    )
    assert (found.database, found.severity, found.timeout, found.hint) == (
        "agents",
        "warn",
        120,
        "see: there",
    )


def test_the_key_that_hint_was_once_called_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.sql"
    file.write_text("-- name: a\n-- expect: rows\n-- mend: look there\nSELECT 1\n")
    assert parse_file(file).hint == "look there"
    assert f"{file}, line 3: the key mend is called hint now" in caplog.messages


@pytest.mark.parametrize(
    ("words", "right", "wrong"),
    [
        ("no rows", (0,), (1, 10_000)),
        ("rows", (1, 10_000), (0,)),
        ("= 42", ("42", "42.0"), ("41", "42.01")),
        ("!= 0", ("1", "-1"), ("0",)),
        (">= 10", ("10", "11"), ("9.99",)),
        ("> 10", ("10.5",), ("10", "9")),
        ("<= 1.5", ("1.5", "-3"), ("1.6",)),
        ("<0", ("-1",), ("0", "1")),
        ("between 1 and 5", ("1", "5", "2.5"), ("0.9", "5.1")),
        ("between  -2   and -2", ("-2",), ("-1", "2")),
    ],
)
def test_an_expectation_holds_exactly_where_it_says(
    tmp_path: Path, words: str, right: tuple[object, ...], wrong: tuple[object, ...]
) -> None:
    expected = expectation(tmp_path, words)
    assert expected.counts_rows == (words in ("no rows", "rows"))
    assert [value for value in right if not expected.holds(Decimal(str(value)))] == []
    assert [value for value in wrong if expected.holds(Decimal(str(value)))] == []


@given(
    st.decimals(allow_nan=False, allow_infinity=False),
    st.decimals(min_value=-1000, max_value=1000, places=2),
)
def test_comparisons_and_their_opposites_never_agree(value: Decimal, limit: Decimal) -> None:
    for one, other in (("=", "!="), ("<", ">="), (">", "<=")):
        assert Expectation("", one, limit).holds(value) is not Expectation("", other, limit).holds(
            value
        )


BROKEN = {
    "no statement": ("-- name: x\n-- expect: rows\n\n", "no statement"),
    "nothing at all": ("", "no statement"),
    "no name": ("-- expect: rows\nSELECT 1", "no name"),
    "no expectation": ("-- name: x\nSELECT 1", "no expect"),
    "unknown key": (
        f"{GOOD}-- severty: warn\nSELECT 1",
        "line 3: found unknown key 'severty'; did you mean severity?",
    ),
    "key twice": (f"{GOOD}-- expect: rows\nSELECT 1", "line 3: found expect for the second time"),
    "key below the statement": (
        f"{GOOD}SELECT 1\n-- severity: warn",
        "line 4: found severity after the statement",
    ),
    "expectation that is none": (
        "-- name: x\n-- expect: about 5\nSELECT 1",
        "line 2: found expect: about 5; expected no rows | rows",
    ),
    "range upside down": ("-- name: x\n-- expect: between 5 and 1\nSELECT 1", "line 2"),
    "number that is none": ("-- name: x\n-- expect: = 1e5\nSELECT 1", "line 2"),
    "name with blanks": (
        "-- name: Orders and lines\n-- expect: rows\nSELECT 1",
        "line 1: found name: Orders and lines",
    ),
    "severity that is none": (
        f"{GOOD}-- severity: bad\nSELECT 1",
        "line 3: found severity: bad; expected fail | warn",
    ),
    "timeout without unit": (f"{GOOD}-- timeout: 30\nSELECT 1", "line 3: found timeout: 30"),
    "timeout of nothing": (f"{GOOD}-- timeout: 0 s\nSELECT 1", "line 3"),
    "empty database": (f"{GOOD}-- database:\nSELECT 1", "line 3"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_names_file_line_and_what_is_allowed(tmp_path: Path, kind: str) -> None:
    text, words = BROKEN[kind]
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        parse_file(file)
    assert str(file) in str(raised.value)
    assert words in str(raised.value)
    assert raised.value.problem.expected


def test_bytes_that_are_no_text_and_files_without_rights_are_errors(tmp_path: Path) -> None:
    (tmp_path / "one.sql").write_bytes(b"\xff\xfe")
    (tmp_path / "two.sql").mkdir()
    for name in ("one.sql", "two.sql"):
        with pytest.raises(ConfigError, match="unreadable"):
            parse_file(tmp_path / name)


def cluster(folder: Path, more: str = "") -> config.Cluster:
    file = folder / "dr.toml"
    file.write_text(
        f"[clusters.a]\n{more}\n[clusters.a.server]\ndata_directory='/x'\n[clusters.a.repository]\nurl='file:///y'\n"
    )
    return config.load(file).cluster("a")


def test_files_are_found_beside_the_configuration_and_broken_ones_do_not_hide_the_others(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "checks"
    folder.mkdir()
    written(folder, GOOD + "SELECT 1", "a.sql")
    written(folder, GOOD + "SELECT 2", "b.sql")
    written(folder, "SELECT 3", "c.sql")
    written(folder, "no SQL check", "README.md")
    good, broken = read_checks(cluster(tmp_path))
    assert [check.file.name for check in good] == ["a.sql"]
    assert [
        "the name orders-have-lines of a.sql" in str(broken[0]),
        "no name" in str(broken[1]),
    ] == [True, True]


def test_a_folder_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    assert read_checks(cluster(tmp_path)) == ([], [])
    assert "no folder" in str(read_checks(cluster(tmp_path, "checks_directory = 'chekcs'"))[1][0])
    other = tmp_path / "other"
    other.mkdir()
    assert read_checks(cluster(tmp_path, f"checks_directory = '{other}'")) == ([], [])


def test_the_examples_are_valid() -> None:
    found = [parse_file(file) for file in sorted(EXAMPLES.glob("*.sql"))]
    assert len({check.name for check in found}) == len(found) == 3
    assert {check.name for check in found} == {file.stem for file in EXAMPLES.glob("*.sql")}


@pytest.mark.parametrize("names", [["PGPASSWORD"], ["DATABASE_URL"], ["A B"], ["PGHOST"]])
def test_an_application_test_cannot_be_given_the_way_to_production(
    tmp_path: Path, names: list[str]
) -> None:
    with pytest.raises(ConfigError, match="pass_environment"):
        config.parse(
            {
                "clusters": {
                    "a": {
                        "server": {"data_directory": "/x"},
                        "repository": {"url": "file:///y"},
                        "application_test": {"pass_environment": names},
                    }
                }
            },
            tmp_path / "dr.toml",
        )
