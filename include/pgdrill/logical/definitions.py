"""The definitions in a database, an object at a time, as pg_dump writes them.

They are complete, because pg_dump is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HEADER = re.compile(
    r"^--\n-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: (?P<schema>.*);"
    r" Owner: (?P<owner>[^\n]*)\n--\n",
    re.MULTILINE,
)
NOISE = re.compile(
    r"^\\(un)?restrict .*$|^-- (Dumped|Started|Completed) .*$|^SET .*;$|^SELECT"
    r" pg_catalog\.set_config.*$",
    re.MULTILINE,
)
END = re.compile(r"^--\n-- PostgreSQL database dump complete\n--\n", re.MULTILINE)
CAST = re.compile(
    r"::(?:\"[^\"]+\"|[\w.]+)(?: varying| precision| with(?:out)? time"
    r" zone)?(?:\(\d+(?:,\d+)?\))?(?:\[\])*"
)
LOOSE = re.compile(r"[()\s]+")
GRANTS = {"ACL", "DEFAULT ACL"}  # one statement a right, in the order in which they were granted


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that is not as recorded: ``how`` is ``missing``, ``added`` or ``changed``."""

    thing: str
    how: str


def objects(text: str, ours: str = "", theirs: str = "") -> dict[str, str]:
    """Return ``TABLE public.items`` -> two hashes of its definition, ``exact/loose``.

    What ``ours`` owns (PostgreSQL's own objects, on which somebody was given rights) counts as
    ``theirs``, for whoever made a drill's cluster has a name of his own.

    PostgreSQL words some expressions anew each time they are restored (``x::text = ANY
    (ARRAY[…]::text[])``): the loose hash leaves casts and brackets out.
    """
    found: dict[str, str] = {}
    text = NOISE.sub("", END.sub("", text))
    heads = list(HEADER.finditer(text))
    for head, after in zip(heads, [*heads, None][1:], strict=True):
        body = text[head.end() : after.start() if after else len(text)].strip()
        if head["type"] in GRANTS:
            body = "\n".join(sorted(body.splitlines()))
        schema = "" if head["schema"] == "-" else f"{head['schema']}."
        thing = f"{head['type']} {schema}{head['name']}"
        while thing in found:
            thing += "'"
        owner = theirs if ours and head["owner"] == ours else head["owner"]
        found[thing] = f"{_hash(owner + body)}/{_hash(owner + LOOSE.sub('', CAST.sub('', body)))}"
    return found


def differences(recorded: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Difference]:
    """Yield what is missing, added or changed, by the recorded hashes."""
    for thing in sorted(recorded.keys() | found.keys()):
        before, now = recorded.get(thing), found.get(thing)
        if now is None or before is None:
            yield Difference(thing, "missing" if now is None else "added")
        elif before != now and before.partition("/")[2] != now.partition("/")[2]:
            yield Difference(thing, "changed")


def globals_lines(text: str, superuser: str) -> set[str]:
    """Return the statements of ``pg_dumpall --globals-only`` that say something of roles.

    The superuser's own exist everywhere, and are left out.
    """
    kept = (
        line for line in text.splitlines() if line and not line.startswith(("--", "SET ", "\\"))
    )
    return {line for line in kept if " TABLESPACE " not in line and not is_of(superuser, line)}


def granted_by(line: str, theirs: str, ours: str) -> str:
    """Return a membership's statement with the grantor by another name.

    The superuser who made the cluster has one of his own in a drill.
    """
    return re.sub(rf' GRANTED BY "?{re.escape(theirs)}"?;$', f" GRANTED BY {ours};", line)


def is_of(role: str, line: str) -> bool:
    """Return whether a statement makes or alters just this role."""
    return bool(re.match(rf'(CREATE|ALTER) ROLE "?{re.escape(role)}"?[ ;]', line))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
