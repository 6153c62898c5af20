"""Text that others wrote, made safe for where it is shown.

Names of tables, keys of objects, messages of servers and reports in the bucket may hold anything:
escape sequences that rule a terminal, newlines that forge a line of a log, marks that turn the
direction of writing, Markdown and HTML. Whatever a surface must not get is shown as ``\\u001b``, so
it is seen, and JSON with it in stays the same JSON.
"""

from __future__ import annotations

import re

# Controls but newline and tab; what is invisible or turns the direction; line separators;
# surrogates; tags. Private use stays.
_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202f\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff"
    # Scripts' own format controls: Arabic, Syriac, Kaithi, hieroglyphs, shorthand, musical
    # notation.
    "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
    "\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
)
UNSAFE = re.compile(f"[{_UNSAFE}]")
BETWEEN_LINES = re.compile(r"\s*\n\s*")
# In a line also the words that fold the lines of a task's log in Airflow's UI, wherever they stand.
UNSAFE_IN_A_LINE = re.compile(f"[{_UNSAFE}\t\n]|:(?=:(?:end)?group::)")
# Characters that mean something within a line; links that need no brackets too.
MARKDOWN = re.compile(r"[\\`*\[\]<>#|~&$!@]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.", re.IGNORECASE)


def visible(text: str) -> str:
    """Return text of several lines in visible characters: newlines and tabs stay."""
    return text if text.isascii() and text.isprintable() else UNSAFE.sub(_shown, text)


def one_line(text: str) -> str:
    """Return text that is to be one line: a newline is shown as ``\\n``."""
    if text.isascii() and text.isprintable() and "group::" not in text:
        return text
    return UNSAFE_IN_A_LINE.sub(
        lambda found: {"\n": "\\n", "\t": " "}.get(found[0]) or _shown(found), text
    )


def joined(text: str) -> str:
    """Return what somebody said in several lines as one: ``a; b``."""
    return BETWEEN_LINES.sub("; ", text.strip()) if "\n" in text else text


def _shown(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number > 0xFFFF:  # as JSON writes it
        number -= 0x10000
        return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
    return f"\\u{number:04x}"


def markdown(text: str) -> str:
    """Return words within a line of Markdown that mean nothing but themselves."""
    return MARKDOWN.sub(lambda found: f"\\{found[0]}", one_line(text))


def code(text: str) -> str:
    """Return a name in Markdown, as code: it cannot end the code, nor the cell of a table."""
    return f"`{one_line(text).replace('`', chr(0x2019)).replace('|', chr(0xA6))}`"


def count(number: int, noun: str) -> str:
    """Return a number of things whose plural ends in s: ``1 segment``, ``2 segments``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, 11th, …"""
    return (
        f"{number}"
        f"{'th' if 10 < number % 100 < 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
    )
