"""The bench's own arithmetic: ratios of medians with the spread of rounds, what a run costs, and a
plot that can be read.
"""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree as ET

from bench.measuring import Meter, Run, in_turn
from bench.plot import plot
from bench.rows import Group, Row, memory, ratio


def run(seconds: float, units: int = 1, peak_bytes: int = 0) -> Run:
    return Run(seconds, seconds, 0, 2 * peak_bytes, peak_bytes, units)


def test_a_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    found = ratio(
        "a ÷ b", {"a": [run(1), run(2), run(9)], "b": [run(2), run(4), run(6)]}, "a", "b", 0.5
    )
    assert (found.value, found.lowest, found.highest, found.verdict) == (0.5, 0.5, 1.5, "kept")


def test_runs_of_different_numbers_of_segments_are_compared_by_the_segment() -> None:
    assert ratio("", {"a": [run(4, 400)], "b": [run(4, 40)]}, "a", "b", 0.05).verdict == "MISSED"


def test_memory_is_the_worst_run() -> None:
    assert (
        memory("", [run(1, peak_bytes=200_000_000), run(1, peak_bytes=250_000_000)], 300).value
        == 250
    )


def test_a_row_without_a_goal_is_told_only() -> None:
    assert Row("", 1, 1, 1, None).verdict == ""


def test_every_round_has_an_order_of_its_own_and_the_next_one_turns_it_around() -> None:
    order: list[str] = []

    def noted(name: str) -> Run:
        order.append(name)
        return run(1)

    in_turn({name: lambda name=name: noted(name) for name in "abcde"}, 4)  # type: ignore[misc]
    rounds = [order[at : at + 5] for at in range(0, 20, 5)]
    assert all(sorted(one) == list("abcde") for one in rounds)
    assert (rounds[1], rounds[3]) == (rounds[0][::-1], rounds[2][::-1])
    assert rounds[0] != rounds[2]


def test_a_meter_counts_what_ended_below_it() -> None:
    spend = (
        "import time; data = bytearray(50_000_000); end = time.process_time() + 0.3\nwhile"
        " time.process_time() < end: pass"
    )
    with Meter() as meter:
        subprocess.run([sys.executable, "-c", spend], check=True)
    found = meter.run()
    assert found.cpu_seconds >= 0.3
    assert found.peak_bytes >= found.own_peak_bytes > 50_000_000
    assert found.read_bytes > 0
    assert found.seconds >= 0.3


def test_the_plot_is_svg_with_a_bar_and_a_spread_for_each_goal() -> None:
    rows = [
        Row("a ÷ <b>", 0.4, 0.3, 0.5, 0.8),
        Row("far & away", 9, 8, 10, 1),
        Row("told only", 1, 1, 1, None),
    ]
    drawn = ET.fromstring(plot([Group("g", {}, rows)]))  # noqa: S314 - our own
    texts = [element.text or "" for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "a ÷ <b>" in texts
    assert any(text.endswith("→") for text in texts)
    assert "told only" not in texts
