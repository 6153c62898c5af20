"""Names of relations survive being one string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.postgres.relation_names import apart, joined

NAMES = st.text(st.sampled_from('ab."\n '), min_size=1, max_size=6)


@given(NAMES, NAMES)
def test_what_is_joined_comes_apart_as_it_was(schema: str, table: str) -> None:
    assert apart(joined(schema, table)) == (schema, table)


@given(NAMES, NAMES, NAMES, NAMES)
def test_two_relations_never_have_one_name(
    schema: str, table: str, other_schema: str, other_table: str
) -> None:
    assert (joined(schema, table) == joined(other_schema, other_table)) == (
        (schema, table) == (other_schema, other_table)
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("items", ("public", "items")),
        ("app.items", ("app", "items")),
        ('"a.b"."c.d"', ("a.b", "c.d")),
        ('"c.d"', ("public", "c.d")),
        ('App."Items"', ("App", "Items")),
        ("a.b.c", ("a", "b.c")),
    ],
)
def test_people_write_names_plainly_or_quoted(written: str, meant: tuple[str, str]) -> None:
    assert apart(written) == meant
