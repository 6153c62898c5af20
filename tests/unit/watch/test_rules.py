"""The rules for Prometheus, by its own promtool, and the unit for systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

OPS = Path(__file__).parents[3] / "ops"
RULES, TESTS = OPS / "prometheus/pgdrill.rules.yml", OPS / "prometheus/pgdrill.test.yml"
promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool (Debian's package prometheus) is not here"
)


def ran(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


@promtool
def test_they_are_right_and_do_what_their_tests_say() -> None:
    assert ran("promtool", "check", "rules", RULES).returncode == 0
    done = ran("promtool", "test", "rules", TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_each_rule_is_missed_by_its_test_if_it_tells_nothing(tmp_path: Path) -> None:
    deaf, count = re.subn(r"(\n +expr: )'.*'", r"\1'vector(0) > 1'", RULES.read_text())
    (tmp_path / RULES.name).write_text(deaf)
    shutil.copy(TESTS, tmp_path)
    done = ran("promtool", "test", "rules", tmp_path / TESTS.name)
    alerts = re.findall(r"alert: (\w+)\n", deaf)
    assert (done.returncode, len(alerts)) == (1, count)
    assert [one for one in alerts if f'alertname="{one}"' not in done.stdout + done.stderr] == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_finds_nothing_wrong_with_the_unit() -> None:
    done = ran("systemd-analyze", "verify", OPS / "systemd/pgdrill-watch.service")
    assert (done.returncode, done.stderr) == (0, "")
