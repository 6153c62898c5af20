"""The demo says what it does: at the beginning of each step, and while one takes long."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

import pgdrill_demo.__main__ as demo
from pgdrill_demo.steps import Steps


class Heard(io.StringIO):
    """What was printed, and an event that is set once it holds some words."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words, self.there = words, threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.words in self.getvalue():
            self.there.set()
        return written


def test_a_step_is_a_line_with_the_seconds_since_the_start() -> None:
    stream = io.StringIO()
    with Steps(Console(file=stream, width=40)).doing("loading the sample, which has a long name"):
        pass
    assert re.fullmatch(
        r" +0\.\d s  loading the sample, which has a long name\n", stream.getvalue()
    )


def test_a_long_step_is_told_of_until_it_ends_and_by_what_was_said_last() -> None:
    stream = Heard("… still building [indexes]")
    steps = Steps(Console(file=stream), silence_seconds=0.05)
    with steps.doing("loading"):
        steps.say("building [indexes]")
        assert stream.there.wait(60)
    ended = stream.getvalue()
    assert not [
        thread for thread in threading.enumerate() if thread.name.endswith("(_break_silence)")
    ]
    assert stream.getvalue() == ended


def test_the_words_for_a_long_step_may_come_from_what_it_runs() -> None:
    stream = Heard("… restore: fetched 3 MB")
    with Steps(Console(file=stream), silence_seconds=0.05).doing(
        "", lambda: "restore: fetched 3 MB"
    ):
        assert stream.there.wait(60)


def test_words_that_hang_do_not_keep_the_step_from_its_end() -> None:
    asked, never = threading.Event(), threading.Event()

    def hang() -> str:
        asked.set()
        never.wait(60)
        return "late"

    stream = io.StringIO()
    with Steps(Console(file=stream), silence_seconds=0.05).doing("loading", hang):
        assert asked.wait(60)
    never.set()
    assert "late" not in stream.getvalue()


@pytest.mark.parametrize(
    "words", [[], ["sideways"], ["demo", "--all"], ["up", "--full"], ["demo", "--full", "--full"]]
)
def test_other_words_are_answered_with_the_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(words) == 2
    assert "demo [--full] | up | down" in capsys.readouterr().out
