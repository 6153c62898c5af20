"""Definitions compared an object at a time."""

from __future__ import annotations

from pgdrill.logical.definitions import differences, globals_lines, objects

TEXT = """--
-- PostgreSQL database dump
--

\\restrict abcdef

-- Dumped from database version 18.6

SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: items; Type: TABLE; Schema: public; Owner: me
--

CREATE TABLE public.items (
    name text,
    CONSTRAINT c CHECK (((name)::text = \
ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))
);

--
-- Name: TABLE items; Type: ACL; Schema: public; Owner: me
--

GRANT SELECT ON TABLE public.items TO a;
GRANT SELECT ON TABLE public.items TO b;

--
-- PostgreSQL database dump complete
--

\\unrestrict abcdef
"""


def changes(text: str) -> list[tuple[str, str]]:
    return [(one.thing, one.how) for one in differences(objects(TEXT), objects(text))]


def test_the_same_text_is_the_same_whatever_the_restrict_key_and_the_version() -> None:
    assert sorted(objects(TEXT)) == ["ACL public.TABLE items", "TABLE public.items"]
    assert changes(TEXT.replace("abcdef", "ghijkl").replace("18.6", "18.7")) == []


def test_casts_and_brackets_that_a_restore_words_anew_are_no_change() -> None:
    anew = TEXT.replace(
        "((ARRAY['a'::character varying, 'b'::character varying])::text[])",
        "(ARRAY[('a'::character varying)::text, ('b'::character varying)::text])",
    )
    assert anew != TEXT
    assert changes(anew) == []


def test_another_value_owner_or_right_is_a_change_and_the_order_of_grants_is_none() -> None:
    assert changes(TEXT.replace("'b'", "'c'")) == [("TABLE public.items", "changed")]
    assert changes(
        TEXT.replace(
            "Type: TABLE; Schema: public; Owner: me", "Type: TABLE; Schema: public; Owner: you"
        )
    ) == [("TABLE public.items", "changed")]
    assert changes(TEXT.replace("items TO b", "items TO c")) == [
        ("ACL public.TABLE items", "changed")
    ]
    first = "GRANT SELECT ON TABLE public.items TO a;"
    second = "GRANT SELECT ON TABLE public.items TO b;"
    assert changes(TEXT.replace(f"{first}\n{second}", f"{second}\n{first}")) == []


def test_missing_and_added_objects_are_named() -> None:
    assert changes("") == [("ACL public.TABLE items", "missing"), ("TABLE public.items", "missing")]


def test_of_roles_everything_counts_but_the_superuser_and_tablespaces() -> None:
    text = (
        "CREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER;\nCREATE ROLE postgres2;\nGRANT"
        " a TO b;\nCREATE TABLESPACE x;\n-- x\n"
    )
    assert globals_lines(text, "postgres") == {"CREATE ROLE postgres2;", "GRANT a TO b;"}
