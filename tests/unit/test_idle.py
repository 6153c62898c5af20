"""Idle cores: the share that the machine and the container leave, own work not counted."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pgdrill.idle import IdleCores
from pgdrill.tuning import cores


def cgroup(folder: Path, limit: str, used_seconds: float) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "cpu.max").write_text(f"{limit}\n")
    (folder / "cpu.stat").write_text(f"usage_usec {int(used_seconds * 1e6)}\nuser_usec 1\n")
    return folder


def pass_time(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_own_work_counts_as_idle_and_that_of_others_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([(0.0, 0.0, 0.0, 0.0), (1.0, 0.5, 0.5 * cores(), 0.0), (2.0, 0.5, 0.5 * cores(), 0.0)])
    monkeypatch.setattr(IdleCores, "_now", lambda _: next(clock))
    idle = IdleCores(tmp_path)  # no container
    assert idle.look() == pytest.approx(0.5 + 0.5 / cores())
    assert idle.look() == 0.0


def test_the_share_of_this_machine_is_one(tmp_path: Path) -> None:
    idle = IdleCores(tmp_path)
    pass_time(0.2)
    assert 0 <= idle.look() <= 1


def test_nothing_is_known_at_once() -> None:
    assert IdleCores().look() == 0.0


def test_a_container_may_have_less_to_spare_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([(0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 1.0 * cores(), 1.5)])
    monkeypatch.setattr(IdleCores, "_now", lambda _: next(clock))
    assert IdleCores(cgroup(tmp_path, "200000 100000", used_seconds=0)).look() == pytest.approx(0.25)


def test_a_container_that_uses_what_it_may_has_no_core_to_spare(tmp_path: Path) -> None:
    idle = IdleCores(cgroup(tmp_path, "50000 100000", used_seconds=1.0))
    began = time.monotonic()
    pass_time(0.2)
    cgroup(tmp_path, "50000 100000", used_seconds=1.0 + 0.5 * (time.monotonic() - began))
    assert idle.look() == pytest.approx(0.0, abs=0.05)


def test_a_container_without_a_limit_has_what_the_machine_has(tmp_path: Path) -> None:
    idle = IdleCores(cgroup(tmp_path, "max 100000", used_seconds=1.0))
    pass_time(0.2)
    cgroup(tmp_path, "max 100000", used_seconds=99.0)
    assert idle.look() >= 0
