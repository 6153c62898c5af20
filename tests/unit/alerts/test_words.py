"""What a phone shows: short, plain, and without anybody else's markup."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pgdrill.alerts.channels.base import Sending
from pgdrill.alerts.channels.pagerduty import event_of
from pgdrill.alerts.channels.slack import payload
from pgdrill.alerts.channels.smtp import mail_of
from pgdrill.alerts.model import Link, Message
from pgdrill.alerts.words import body, lines, span, title
from tests.unit.alerts.made import NOON, finding

EVIL = "<!channel> *x* <b>y</b>\x1b[31m\nSubject: z\r\nBcc: a@b.c `c` https://evil.example [d](e)"


def message(**more: object) -> Message:
    found = finding(
        "wal-waiting",
        "critical",
        found="3 files wait, the oldest for 12 min",
        promise="60 s",
        would_lose_seconds=720,
        hint="see archive_command in the server's log",
    )
    given = {
        "id": "pgdrill/agents/wal-waiting@20261130T120000.000000Z.1",
        "key": "pgdrill/agents/wal-waiting",
        "cluster": "agents",
        "cause": "wal-waiting",
        "kind": "start",
        "severity": "critical",
        "since": NOON,
        "at": NOON + timedelta(minutes=4),
        "findings": (found,),
        "count": 1,
        "hides": ("measured-rpo",),
    }
    return Message.model_validate({**given, **more})


def test_it_says_what_since_when_how_bad_what_would_be_lost_and_the_first_step() -> None:
    assert title(message()) == ("CRITICAL agents wal-waiting: 3 files wait, the oldest for 12 min")
    assert lines(message()) == [
        "3 files wait, the oldest for 12 min (promised: 60 s)",
        "since 2026-11-30 12:00 UTC (4 min)",
        "lost if production died now: 12 min of work",
        "first step: see archive_command in the server's log",
        "not told while this lasts: measured-rpo",
    ]


def test_the_end_says_how_long_it_lasted() -> None:
    end = message(kind="end", at=NOON + timedelta(hours=3, minutes=7))
    assert title(end) == "OK agents wal-waiting: over after 3 h 7 min"
    assert lines(end)[0] == (
        "over: lasted 3 h 7 min, from 2026-11-30 12:00 UTC to 2026-11-30 15:07 UTC"
    )


def test_the_longest_message_fits_on_a_phone() -> None:
    found = tuple(
        finding("slots", "critical", thing="t" * 500, found="f" * 500, hint="h" * 500)
        for _ in range(5)
    )
    long = message(findings=found, count=99)
    assert len(title(long)) <= 100
    assert len(body(long)) < 2600
    assert "and 94 more" in lines(long)


@pytest.mark.parametrize("kind", ["start", "end", "still", "worse"])
def test_nobody_elses_markup_gets_into_any_channel(kind: str) -> None:
    evil = finding("slots", "critical", thing=EVIL, found=EVIL, promise=EVIL, hint=EVIL)
    told = message(kind=kind, findings=(evil,))
    for text in (title(told), body(told)):
        assert "\x1b" not in text and "\r" not in text
        assert len(body(told).splitlines()) <= 8
    mail = mail_of(Sending(told), "pgdrill@example.org", ("dba@example.org",))
    assert mail["Bcc"] is None
    assert str(mail["Subject"]).count("\n") == 0
    assert mail.get_content_type() == "text/plain"
    slack = payload(Sending(told))
    assert "<!channel>" not in slack["text"]
    assert {block["text"]["type"] for block in slack["blocks"]} == {"plain_text"}
    assert "\x1b" not in event_of(told, "")["payload"]["custom_details"]["text"]


def test_an_address_in_others_words_is_no_link_and_ours_is_one() -> None:
    link = Link(text="run <1>", url="https://airflow.example/run?a=1&b=2")
    told = message(findings=(finding("slots", "critical", found=EVIL),), links=(link,))
    assert "https://evil" not in body(told)
    assert link.url in body(told)
    assert payload(Sending(told))["blocks"][-1]["text"] == {
        "type": "mrkdwn",
        "text": "<https://airflow.example/run?a=1&amp;b=2|run &lt;1&gt;>",
    }


def test_a_link_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="url"):
        Link(text="x", url="javascript:alert(1)")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (1.5, "1.5 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3661, "1 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


def test_the_mails_of_a_key_are_one_thread_and_each_has_its_own_id() -> None:
    first = mail_of(Sending(message()), "p@example.org", ("d@example.org",))
    again = mail_of(Sending(message()), "p@example.org", ("d@example.org",))
    later = mail_of(
        Sending(message(id="pgdrill/agents/wal-waiting@x.2")), "p@example.org", ("d@example.org",)
    )
    assert first["Message-ID"] == again["Message-ID"] != later["Message-ID"]
    assert first["References"] == later["References"]
