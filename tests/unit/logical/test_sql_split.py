"""SQL text is cut where psql cuts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.logical.sql_split import split

WHOLE = [
    "SELECT 'a;b'",
    "SELECT 'it''s; one'",
    r"SELECT E'quote \'; still'",
    r"SELECT 'back\'",
    'SELECT ";"',
    "SELECT $$a; b$$",
    "SELECT $x$ ; $y$ ; $x$",
    "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END",
    "SELECT /* ; /* nested ; */ ; */ 1",
    "SELECT 1 -- ; not here\n + 1",
    "SELECT a$b$c",
    "DO $do$ BEGIN PERFORM 1; END $do$",
    "SELECT 1 AS begin",
    "SELECT U&'\\0441;'",
]


@pytest.mark.parametrize("text", WHOLE)
def test_a_semicolon_inside_of_something_ends_nothing(text: str) -> None:
    assert [one.text for one in split(f"{text};SELECT 2")] == [text, "SELECT 2"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(WHOLE), st.sampled_from(["\n", "\n\n", " -- x;\n", " /* y; */ ", " "])
        )
    )
)
def test_any_sequence_comes_apart_into_its_statements_with_their_lines(
    parts: list[tuple[str, str]],
) -> None:
    text, wanted = "", []
    for statement, between in parts:
        wanted.append((statement, text.count("\n") + 1))
        text += f"{statement};{between}"
    found = list(split(text))
    assert [one.line for one in found] == [line for _, line in wanted]
    assert all(
        one.text.endswith(statement) for one, (statement, _) in zip(found, wanted, strict=True)
    )


@given(st.text())
def test_no_text_makes_it_fail(text: str) -> None:
    assert all(one.text.strip() for one in split(text))


def test_comments_alone_are_no_statement_and_come_before_one() -> None:
    assert list(split("-- nothing\n/* at all */ ;;\n")) == []
    (one,) = split("-- first\n\n/* second */\nALTER TABLE t ADD c int")
    assert (one.line, one.words, one.verb[:11]) == (4, "ALTER TABLE t ADD c int", "ALTER TABLE")


def test_the_first_words_show_no_value() -> None:
    (one,) = split("INSERT INTO users VALUES ('patient-name', $$body$$)")
    assert one.words == "INSERT INTO users VALUES ("
