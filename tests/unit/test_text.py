"""Text of others, made safe for terminals, lines of logs and Markdown."""

from __future__ import annotations

import io
import json
import logging
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from pgdrill.cli.app import log_to_stderr, say
from pgdrill.errors import CouldNotVerify
from pgdrill.host.logs import keep_lines_whole
from pgdrill.reports.listing import grid
from pgdrill.reports.model import CheckResult, Trouble
from pgdrill.reports.terminal import SafeConsole, pairs
from pgdrill.text import code, markdown, one_line, visible

CLIPBOARD = "\x1b]52;c;cm0gLXJmIC8=\x07"  # sets the clipboard of the terminal that shows it
EVIL = [
    CLIPBOARD,
    "\x1b[2J\x1b[31m",
    "\x9b31m",
    "a\rPASSED",
    "\x7f\x08\x08",
    "\u202edesrever",
    "\u2066\u2069",
    "a b c",
    "\x85",
    "\u200b\ufeff",
    "\ud800",
    "\U000e0041",
    "\x00",
]
ANYTHING = st.text(st.characters(), max_size=60) | st.sampled_from(EVIL)


def harmless(text: str) -> bool:
    return not any(
        unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        for char in text
        if char not in "\n\t"
    )


@given(ANYTHING)
def test_nothing_of_a_text_rules_a_terminal(text: str) -> None:
    assert harmless(visible(text))
    assert visible(visible(text)) == visible(text)
    assert "\n" not in one_line(text)
    assert harmless(one_line(text))


def test_every_format_control_that_this_python_knows_is_shown() -> None:
    assert [
        hex(ord(char)) for char in map(chr, range(0x110000)) if not harmless(visible(char))
    ] == []


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs"))))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == one_line(text) == text


@pytest.mark.parametrize("text", ["Größe, naïve, 日本語, ελληνικά, 🐘", "a → b · c"])
def test_other_scripts_stay_as_they_are(text: str) -> None:
    assert one_line(text) == text


@given(
    st.recursive(
        ANYTHING.filter(lambda text: not re.search("[\ud800-\udfff]", text)),
        lambda inner: st.lists(inner) | st.dictionaries(ANYTHING, inner),
        max_leaves=5,
    )
)
def test_json_stays_the_same_json(data: object) -> None:
    raw = json.dumps(data, ensure_ascii=False)
    assert json.loads(visible(raw)) == json.loads(raw)


def test_a_task_logs_fold_marks_are_only_shown() -> None:
    for text in ("x ::group::hidden", "::endgroup::"):
        assert "::group::" not in one_line(text)
        assert "::endgroup::" not in one_line(text)


@pytest.mark.parametrize("text", EVIL)
def test_errors_and_reports_hold_no_such_text(text: str) -> None:
    error = CouldNotVerify("reason", f"table {text}", found=f"a\n{text}", expected=text, hint=text)
    for shown in (str(error), *vars_of(error.problem), Trouble.of(error.problem).found):
        assert harmless(shown)
        assert "\n" not in shown
    result = CheckResult(
        name="x", family="y", status="fail", thing=text, value=text, message=f"{text}\nPASSED"
    )
    result.thing = text
    assert harmless(f"{result.thing}{result.value}{result.message}")
    assert "\n" not in result.message


def vars_of(problem: object) -> list[str]:
    return [getattr(problem, name) for name in ("reason", "thing", "found", "expected", "hint")]


@pytest.mark.parametrize("text", EVIL)
def test_a_console_passes_nothing_on_but_its_own_colours(text: str) -> None:
    out = io.StringIO()
    console = SafeConsole(
        file=out,
        force_terminal=True,
        color_system="truecolor",
        width=200,
        highlight=False,
        markup=False,
    )
    console.print(Text(f"[bold]{text}[/bold]", style="red"))
    console.print(f"[link=http://evil]{text}")
    console.print(grid((text, "b"), [(text, f"{text}\nforged row")]))
    console.print(pairs([(text, f"{text}\nforged line")]))
    shown = out.getvalue()
    assert harmless(re.sub(r"\x1b\[[0-9;]*m", "", shown))
    assert not re.search(r"^\s*forged", shown, re.MULTILINE)
    assert "[bold]" in shown
    assert "[link=http://evil]" in shown


def test_a_line_of_the_log_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(logging.INFO)
    logging.getLogger("pgdrill.somewhere").warning(
        "%s: %s", "table", f"x\n23:59:59 INFO    drill passed{CLIPBOARD}"
    )
    try:
        int(CLIPBOARD)
    except ValueError:
        logging.getLogger("pgdrill.somewhere").exception("broke")
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)]) == 2
    assert all(map(harmless, lines))


def test_where_others_format_the_librarys_lines_they_are_whole_as_well() -> None:
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    before = logging.getLogRecordFactory()
    logger = logging.getLogger("pgdrill.x")
    other = logging.getLogger("others")
    handler = Keep()
    try:
        keep_lines_whole()
        keep_lines_whole()
        for one in (logger, other):
            one.addHandler(handler)
            one.warning("100 %% of %s", "a\n::group::b")
    finally:
        logging.setLogRecordFactory(before)
        for one in (logger, other):
            one.removeHandler(handler)
    assert seen[0] == "100 % of a\\n\\u003a:group::b"
    assert seen[-1] == "100 % of a\n::group::b"  # not ours


def test_json_for_programs_is_pure(capsys: pytest.CaptureFixture[str]) -> None:
    say(json.dumps({"a": "\x9b31m\u202e"}, ensure_ascii=False))
    said = capsys.readouterr().out
    assert harmless(said)
    assert json.loads(said) == {"a": "\x9b31m\u202e"}


@pytest.mark.parametrize(
    "text",
    [
        "[x](http://evil)",
        "![x](http://evil/pixel.png)",
        "<script>alert(1)</script>",
        "a | b",
        "**bold**",
        "`code`",
        "# title",
        "http://evil",
        "www.evil.org",
        "x@evil.org",
        "~~gone~~",
        "&lt;",
        "_it_",
        "a\n# title",
        "\\",
    ],
)
def test_markdown_means_nothing_but_itself(text: str) -> None:
    from markdown_it import MarkdownIt

    def flat(source: str) -> list[object]:
        found = (
            MarkdownIt("gfm-like", {"linkify": False})
            .enable(["table", "strikethrough"])
            .parse(source)
        )
        return [child for token in found for child in [token, *(token.children or [])]]

    shown = flat(f"- {markdown(text)} end")
    kinds = {token.type for token in shown}  # type: ignore[attr-defined]
    assert kinds <= {
        "bullet_list_open",
        "bullet_list_close",
        "list_item_open",
        "list_item_close",
        "paragraph_open",
        "paragraph_close",
        "inline",
        "text",
        "text_special",
    }
    assert (
        "".join(token.content for token in shown if token.type in ("text", "text_special"))
        == f"{one_line(text)} end"
    )  # type: ignore[attr-defined]
    assert "p://" not in markdown(text)
    coded = [token for token in flat(f"- {code(text)} end") if token.type == "code_inline"]  # type: ignore[attr-defined]
    assert len(coded) == 1


@pytest.mark.parametrize(
    "text",
    ["retention.max_share", "base_0001", "anchor: the newest good one, 2026-11-01 02:00 UTC"],
)
def test_ordinary_words_stay_readable_in_markdown(text: str) -> None:
    assert markdown(text) == text
