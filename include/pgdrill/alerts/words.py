"""A message in words that fit on a phone.

What others named and said is one line, without anything that rules a terminal or a page; what the
channels' own markup would read is theirs to escape.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pgdrill.alerts.looks import UNKNOWN
from pgdrill.alerts.model import Message
from pgdrill.health.model import HealthFinding
from pgdrill.text import joined, one_line

TITLE, LINE = 100, 220  # characters; SNS takes a subject of 100
MARK = "…"
UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
TENTHS_BELOW = 10  # seconds


def title(message: Message) -> str:
    """Return the one line that a phone shows first: how bad, which cluster, what."""
    first = _safe(message.findings[0].found, LINE) if message.findings else ""
    words = f"{_head(message)} {message.cluster} {check_of(message)}"
    if message.kind == "end":
        how = "is not asked any more" if message.not_asked else "over"
        return _cut(f"{words}: {how} after {span(message.at - message.since)}", TITLE)
    return _cut(f"{words}: {first}" if first else words, TITLE)


def lines(message: Message) -> list[str]:
    """Return what, since when, how bad against the promise, what would be lost, the first step."""
    said = [_finding(one, message) for one in message.findings]
    if (more := message.count - len(message.findings)) > 0:
        said.append(f"and {more} more")
    if message.kind == "end":
        was = [f"was: {said[0]}"] if said else []
        return [_over(message), *was]
    said.append(_since(message))
    if lost := [f.would_lose_seconds for f in message.findings if f.would_lose_seconds is not None]:
        said.append(f"lost if production died now: {span(timedelta(seconds=max(lost)))} of work")
    if message.acknowledged:
        by, why = _safe(message.acknowledged.by, 60), _safe(message.acknowledged.why, LINE)
        said.append(f"acknowledged by {by}: {why}")
    if hint := next((one.hint for one in message.findings if one.hint), ""):
        said.append(f"first step: {_cut(one_line(joined(hint)), LINE)}")
    if message.hides:
        said.append(_cut(f"not told while this lasts: {', '.join(message.hides)}", LINE))
    return said


def body(message: Message, note: str = "") -> str:
    """Return the whole text, with its links: for channels that take plain text."""
    parts = [*lines(message), *([_safe(note, LINE)] if note else [])]
    parts += [f"{one_line(link.text)}: {link.url}" for link in message.links]
    return "\n".join([*parts, message.key])


def check_of(message: Message) -> str:
    """Return what the alert is about."""
    return message.cause.removesuffix(UNKNOWN)


def span(length: timedelta) -> str:
    """Return a span of time in its two largest units: ``1 d 4 h``, ``3 min 20 s``."""
    seconds = max(length.total_seconds(), 0.0)
    if 0 < seconds < TENTHS_BELOW and seconds != int(seconds):
        return f"{seconds:.1f} s"
    words: list[tuple[int, str]] = []
    left = int(seconds)
    for unit, size in UNITS:
        number, left = divmod(left, size)
        if number or words:
            words.append((number, unit))
    return " ".join(f"{number} {unit}" for number, unit in words[:2] if number) or "0 s"


def moment(at: datetime) -> str:
    """Return a time as messages show it."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _head(message: Message) -> str:
    if message.kind == "end":
        return "OK"
    return {"test": "TEST"}.get(message.kind, message.severity.upper())


def _finding(finding: HealthFinding, message: Message) -> str:
    thing = f"{_safe(finding.thing, 80)}: " if finding.thing else ""
    lead = "cannot be looked at: " if message.cause.endswith(UNKNOWN) else ""
    promise = f" (promised: {_safe(finding.promise, 80)})" if finding.promise else ""
    return f"{lead}{thing}{_safe(finding.found, LINE)}{promise}"


def _since(message: Message) -> str:
    so_long = span(message.at - message.since)
    words = {"still": "still so, since", "worse": "grew worse; since"}.get(message.kind, "since")
    return f"{words} {moment(message.since)} ({so_long})"


def _over(message: Message) -> str:
    how = "the check is not asked any more" if message.not_asked else "over"
    return (
        f"{how}: lasted {span(message.at - message.since)},"
        f" from {moment(message.since)} to {moment(message.at)}"
    )


def _safe(text: str, longest: int) -> str:
    """Others' words on one line. An address in them is no link."""
    return _cut(one_line(joined(text)).replace("://", "[:]//"), longest)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + MARK
