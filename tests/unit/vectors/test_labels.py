"""A label is one line of a comment; whatever else stands there is somebody else's and stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pgdrill.cli import app
from pgdrill.vectors.labels import Label, LabelError, parse_label, split, with_label

LABEL = Label(model="hashing-384", version="1", text_column="content", updated_column="updated_at")
LINE = (
    "pgdrill:"
    ' {"model":"hashing-384","version":"1","text_column":"content","updated_column":"updated_at"}'
)


def test_a_label_is_one_line_of_json() -> None:
    assert LABEL.line == LINE
    assert parse_label(LINE) == LABEL
    assert str(LABEL) == "hashing-384@1"


@pytest.mark.parametrize("comment", [None, "", "Made nightly.", "see pgdrill: {}", "PGDRILL: {}"])
def test_any_other_comment_is_no_label(comment: str | None) -> None:
    assert parse_label(comment) is None


def test_other_lines_do_not_matter() -> None:
    assert parse_label(f"Made nightly.\r\n  {LINE}  \n\nAsk Ada.") == LABEL
    assert split(f"Made nightly.\n{LINE}\nAsk Ada.").others == ("Made nightly.", "Ask Ada.")


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        pytest.param("pgdrill:", "EOF", id="nothing behind it"),
        pytest.param("pgdrill: {model: x}", "JSON", id="no JSON"),
        pytest.param('pgdrill: ["x"]', "object", id="no object"),
        pytest.param('pgdrill: {"model": "x"}', "version: Field required", id="no version"),
        pytest.param('pgdrill: {"model": "", "version": "1"}', "model: ", id="an empty model"),
        pytest.param(
            'pgdrill: {"model": "x", "version": "1@2"}',
            "version: ",
            id="a version that ends in a version",
        ),
        pytest.param(
            'pgdrill: {"model": "x", "version": "1", "txt": "c"}', "txt: ", id="an unknown key"
        ),
        pytest.param(f"{LINE}\n{LINE}", "2 labels", id="two labels"),
    ],
)
def test_a_label_that_cannot_be_read_says_why(comment: str, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        parse_label(comment)


def test_writing_keeps_other_lines_and_the_label_s_place() -> None:
    newer = LABEL.model_copy(update={"version": "2"})
    assert with_label(None, LABEL) == LINE
    assert with_label("Made nightly.", LABEL) == f"Made nightly.\n{LINE}"
    assert with_label(f"One.\n{LINE}\nTwo.", newer) == f"One.\n{newer.line}\nTwo."
    assert with_label("pgdrill: broken\nOne.\npgdrill: {}", newer) == f"{newer.line}\nOne."


words = st.text(min_size=1).filter(lambda text: text.strip() and "@" not in text)


@given(words, words, st.none() | words, st.text().filter(lambda text: "pgdrill:" not in text))
def test_what_was_written_is_read_again(
    model: str, version: str, text_column: str | None, others: str
) -> None:
    label = Label(model=model, version=version, text_column=text_column)
    comment = with_label(others, label)
    assert parse_label(comment) == label
    assert list(split(comment).others) == (others.split("\n") if others else [])
    assert with_label(comment, label) == comment


@pytest.mark.parametrize(
    "arguments",
    [
        ["agents", "items"],
        ["agents", "items", "embedding"],
        ["agents", "items", "embedding", "--model", "x"],
        ["agents", "--model", "x", "--model-version", "1"],
    ],
)
def test_half_a_label_is_not_written(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["label", *arguments])
    assert result.exit_code == 2
    assert "--model" in result.stderr or "TABLE" in result.stderr
