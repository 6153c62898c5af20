"""docs/evidence/detection.md: every detection test stands in it, and it is what the record says.

(The record: a real run.)
"""

from __future__ import annotations

import subprocess
import sys

from tests.detection.recording import CAUGHT, PROJECT, TABLE, UNDAMAGED, load, table

AGAIN = "run: make detection-table (ARGS='tests/detection/test_x.py' for one file)"


def test_the_table_is_made_from_the_record() -> None:
    assert TABLE.read_text() == table(load()), AGAIN


def test_every_detection_test_is_in_the_record_and_nothing_else() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "tests/detection",
            "--ignore",
            "tests/detection/test_checks_are_needed.py",
            "--ignore",
            UNDAMAGED,
            "--collect-only",
            "-q",
            "-o",
            "addopts=",
            "-p",
            "no:cacheprovider",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    tests = {line for line in done.stdout.splitlines() if "::" in line}
    assert len(tests) > 50
    assert sorted(tests - load().keys()) == [], f"not in {CAUGHT.name}; {AGAIN}"
    assert sorted(load().keys() - tests) == [], f"gone since; {AGAIN}"


def test_a_damage_without_a_check_that_caught_it_is_not_in_the_table() -> None:
    for caught in load().values():
        assert caught.name
        # families share names
        rows = [
            line for line in TABLE.read_text().splitlines() if line.startswith(f"| {caught.name} |")
        ]
        assert bool(rows) == bool(caught.failed or caught.warned)
        assert any(all(name in row for name in caught.failed) for row in rows or [""])
