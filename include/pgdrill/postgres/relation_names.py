"""Names of relations as one string that can be taken apart again.

Whatever characters are in them, the form is ``schema.table``, and in quotes as SQL has them where a
part holds a dot or a quote itself: ``"a.b"."c.d"`` is not ``a."b.c.d"``.
"""

from __future__ import annotations

import re

PART = r'(?:"((?:[^"]|"")+)"|([^".]+))'
TWO = re.compile(rf"(?:{PART}\.)?{PART}", re.DOTALL)


def joined(*parts: str) -> str:
    """Join schema, relation and perhaps column into one string."""
    return ".".join(
        '"' + part.replace('"', '""') + '"' if re.search(r'[."]', part) else part for part in parts
    )


def apart(name: str, home: str = "public") -> tuple[str, str]:
    """Split a name into schema and relation; ``home`` where it names no schema.

    In a name that was written plainly, the schema ends at the first dot.
    """
    if match := TWO.fullmatch(name):
        schema, relation = _plain(match[1], match[2]), _plain(match[3], match[4])
        return schema or home, relation
    schema, dot, relation = name.partition(".")
    return (schema, relation) if dot else (home, name)


def _plain(quoted: str | None, bare: str | None) -> str:
    return quoted.replace('""', '"') if quoted else bare or ""
