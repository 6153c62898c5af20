"""A word comes through PostgreSQL's own reading of a command and then the shell's, as it was."""

from __future__ import annotations

import re
import subprocess

import pytest

from pgdrill.postgres.shell_words import shell_word

OWN = {"%%": "%", "%p": "pg_wal/RECOVERYXLOG", "%f": "000000010000000000000001"}


def as_postgresql_reads(command: str) -> str:
    """Its placeholders filled in; an unknown one is an error, as there."""
    return re.sub("%.?", lambda found: OWN[found[0]], command)


@pytest.mark.parametrize(
    "word", ["plain", "it's 50% ü", "100%p", "%", "%%f", '$HOME `id` \\n "x"', "a\nb"]
)
def test_a_word_comes_through_as_it_was(word: str) -> None:
    command = as_postgresql_reads(f"printf %%s {shell_word(word)}")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == word
