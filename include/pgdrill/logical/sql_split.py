"""SQL text cut into statements, with the line each begins at.

It is cut as psql does it, so that a file can be run piece by piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

DOLLAR = re.compile(r"\$([A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$")
WORD = re.compile(r"[A-Za-z_\x80-\uffff][\w$\x80-\uffff]*")
SPACE_OR_COMMENT = re.compile(r"\s+|--[^\n]*")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, without its semicolon."""

    text: str
    line: int

    @property
    def words(self) -> str:
        """The first words, for people: up to the first literal, so that no value shows."""
        shown = re.split(r"['$]", " ".join(_bare(self.text).split()))[0].strip()
        return shown[:100]

    @property
    def bare(self) -> str:
        """The statement without the comments before its first word."""
        return _bare(self.text)

    @property
    def verb(self) -> str:
        """The first words in capitals, comments left out."""
        return " ".join(self.bare.upper().split()[:6])


def split(text: str) -> Iterator[Statement]:
    """Yield the statements of a file.

    A semicolon ends one, except in quotes, comments, brackets and ``BEGIN ATOMIC … END``.
    """
    start, at, depth, blocks, words = 0, 0, 0, 0, [""]
    while at < len(text):
        end = _skip(text, at)
        if end > at:
            at = end
            continue
        if match := WORD.match(text, at):
            word = match[0].upper()
            if blocks and word in ("CASE", "BEGIN"):
                blocks += 1
            elif blocks and word == "END":
                blocks -= 1
            elif word == "ATOMIC" and words[-1] == "BEGIN":
                blocks = 1
            words.append(word)
            at = match.end()
            continue
        character = text[at]
        depth += (character == "(") - (character == ")")
        if character == ";" and depth <= 0 and not blocks:
            yield from _statement(text, start, at)
            start, depth, words = at + 1, 0, [""]
        at += 1
    yield from _statement(text, start, len(text))


def _skip(text: str, at: int) -> int:
    """Return the end of a comment or a quoted part that begins here; ``at`` where none does."""
    if text.startswith("--", at):
        end = text.find("\n", at)
        return len(text) if end < 0 else end
    if text.startswith("/*", at):
        return _comment_end(text, at)
    character = text[at]
    if character in "'\"":
        escapes = (
            character == "'"
            and at > 0
            and text[at - 1] in "eE"
            and not (at > 1 and (text[at - 2].isalnum() or text[at - 2] == "_"))
        )
        return _quote_end(text, at, character, escapes)
    if (
        character == "$"
        and (match := DOLLAR.match(text, at))
        and not (at and (text[at - 1].isalnum() or text[at - 1] in "_$"))
    ):
        end = text.find(match[0], match.end())
        return len(text) if end < 0 else end + len(match[0])
    return at


def _comment_end(text: str, at: int) -> int:
    depth, at = 1, at + 2
    while depth and at < len(text):
        if text.startswith("/*", at):
            depth, at = depth + 1, at + 2
        elif text.startswith("*/", at):
            depth, at = depth - 1, at + 2
        else:
            at += 1
    return at


def _quote_end(text: str, at: int, quote: str, escapes: bool) -> int:
    at += 1
    while at < len(text):
        if escapes and text[at] == "\\":
            at += 2
        elif text[at] == quote:
            if text[at + 1 : at + 2] != quote:
                return at + 1
            at += 2
        else:
            at += 1
    return len(text)


def _statement(text: str, start: int, end: int) -> Iterator[Statement]:
    body = text[start:end]
    bare = _bare(body)
    if bare:
        first = end - len(body) + body.index(bare) if bare in body else start
        yield Statement(body.strip(), text.count("\n", 0, first) + 1)


def _bare(text: str) -> str:
    """Return a text without the comments and spaces before its first word."""
    at = 0
    while at < len(text):
        if match := SPACE_OR_COMMENT.match(text, at):
            at = match.end()
        elif text.startswith("/*", at):
            at = _comment_end(text, at)
        else:
            break
    return text[at:].strip()
