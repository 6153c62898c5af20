"""Run a set-up as an operator does, doctor first, and judge what was said."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.setups.debian import DebianHost, debian
from tests.setups.host import Done, Host, host
from tests.setups.setup import Answer, Setup

# warn on every new server: nothing is archived, nothing backed up yet
NEW = ("archive-command", "backups")
OF_OLD = "checksums"  # PostgreSQL before 18 makes clusters without, unless told to
COMMANDS = {
    "backup": ("backup", "agents"),
    "drill": ("drill", "agents"),
    "dump": ("dump", "agents"),
    "dump's drill": ("drill", "agents", "--dump", "LATEST"),
}
NOT_IN_WORDS = ("Traceback", "unexpected error")


@dataclass(frozen=True)
class Found:
    """What became of a set-up: what the job answered, what doctor had said, and what is wrong with
    that (nothing: all is as it should be).
    """

    setup: Setup
    answered: str
    foreseen: str
    seconds: float
    wrong: str


def judge(setup: Setup) -> Found:
    """Try one."""
    started = time.monotonic()
    wrong: list[str] = []
    foreseen = answered = ""
    try:
        with debian(setup) if setup.debian else host(setup) as made:
            doctor = made.pgdrill(
                "doctor",
                "agents",
                "--timeout",
                "120",
                *(word for job in setup.jobs for word in ("--for", job)),
            )
            foreseen = ", ".join(_told(doctor, setup, wrong))
            answered = _answered(made, setup, wrong)
    except Exception as error:  # one that cannot be made is wrong, and the others go on
        wrong.append(f"{type(error).__name__}: {error}")
    return Found(
        setup,
        answered,
        foreseen or "all green",
        round(time.monotonic() - started, 1),
        "; ".join(wrong)[:2000],
    )


def _told(doctor: Done, setup: Setup, wrong: list[str]) -> Iterator[str]:
    """What doctor said beforehand."""
    wrong += [
        f"doctor: {word}: {doctor.stderr[-500:]}" for word in NOT_IN_WORDS if word in doctor.stderr
    ]
    if error := doctor.said.get("error"):
        lines = [{"name": error["reason"], "status": "red", **error, "hint": error["hint"]}]
    else:
        lines = doctor.said.get("lines", [])
    left_out = NEW if OF_OLD in setup.warns else (*NEW, OF_OLD)
    by_status = {
        status: [
            line
            for line in lines
            if line["status"] == status
            and line["name"] not in (left_out if status == "warn" else ())
        ]
        for status in ("red", "warn", "unknown")
    }
    names = {status: {line["name"] for line in found} for status, found in by_status.items()}
    if not lines:
        wrong.append(f"doctor said nothing: {doctor.stderr[-500:]}")
    shown = json.dumps(
        [line for found in by_status.values() for line in found if line["status"] != "unknown"],
        ensure_ascii=False,
    )
    for status, expected in (("red", setup.red), ("warn", setup.warns)):
        if names[status] != set(expected):
            wrong.append(
                f"doctor has {status} {sorted(names[status])}, wanted {sorted(expected)}:"
                f" {shown[:900]}"
            )
    if names["unknown"] and not names["red"]:
        wrong.append(f"doctor could not ask {by_status['unknown']}"[:600])
    if (
        setup.red
        and setup.answer
        and not any(
            (setup.foretold or setup.answer.words) in _text(line)
            for line in by_status["red"]
            if line["name"] == setup.red[0]
        )
    ):
        wrong.append(f"doctor does not say {setup.answer.words!r}: {shown[:600]}")
    wrong += [
        f"doctor gives no hint for {line['name']}" for line in by_status["red"] if not line["hint"]
    ]
    if bool(setup.answer) != bool(setup.red) and not setup.why:
        wrong.append(
            "doctor and the job are to say different things, and the set-up does not say why"
        )
    yield from (
        f"{status} `{name}`" for status in ("red", "warn") for name in sorted(names[status])
    )
    if setup.why:
        yield setup.why if setup.red else f"not foreseen: {setup.why}"


def _text(line: dict[str, Any]) -> str:
    return " ".join(str(line[part]) for part in ("thing", "found", "expected", "hint"))


def _answered(made: Host | DebianHost, setup: Setup, wrong: list[str]) -> str:
    for job in (
        *["backup"] * setup.backups,
        "drill",
        *(
            ("dump", "dump's drill")
            if setup.dump or (setup.answer and "dump" in setup.answer.job)
            else ()
        ),
    ):
        done = made.pgdrill(*COMMANDS[job])
        wrong += [
            f"{job}: {word}: {done.stderr[-500:]}" for word in NOT_IN_WORDS if word in done.stderr
        ]
        if setup.answer and setup.answer.job == job:
            return _refused(job, setup.answer, done, wrong)
        if said := _alarms(done):
            wrong.append(f"{job} ended with {done.code}: {said}")
            return said[:300]
    if setup.answer:
        wrong.append(f"no job of {setup.answer.job} was run")
    return "*works*"


def _alarms(done: Done) -> str:
    """What keeps a job from having gone through, in its own words."""
    if error := done.said.get("error"):
        return " | ".join(error.values())
    trouble = done.said.get("restore", {}).get("trouble")
    alarms = [
        f"{one['name']} of {one['thing']}: {one['message']} ({one['value']})"
        for one in done.said.get("results", ())
        if one["status"] == "fail" or (one["status"] == "skip" and one["required"])
    ]
    if done.code == 0 and not trouble and not alarms:
        return ""
    return (
        " | ".join([*([str(trouble)] if trouble else []), *alarms])
        or f"exit code {done.code}: {done.stderr[-400:]}"
    )


def _refused(job: str, answer: Answer, done: Done, wrong: list[str]) -> str:
    """The clear answer, as the page shows it."""
    said = (
        done.said.get("error")
        or done.said.get("restore", {}).get("trouble")
        or _failed(done, answer.reason)
    )
    if not said:
        wrong.append(f"{job} has no answer: code {done.code}, {_alarms(done) or 'went through'}")
        return ""
    if said["reason"] != answer.reason:
        wrong.append(f"{job}: reason {said['reason']}, wanted {answer.reason}: {said}")
    for words, where in (
        (answer.words, f"{said['thing']} {said['found']} {said['expected']}"),
        (answer.hint, said["hint"]),
    ):
        if not words or words not in where:
            wrong.append(f"{job}: {words!r} is not in {where!r}")
    if done.code not in (1, 2):
        wrong.append(f"{job}: exit code {done.code}")
    return f"{job}: `{said['reason']}`: {said['thing']}: {said['found']}. Hint: {said['hint']}"


def _failed(done: Done, name: str) -> dict[str, str]:
    """A check of that name that is red."""
    for one in done.said.get("results", ()):
        if one["name"] == name and one["status"] in ("fail", "skip"):
            return {
                "reason": name,
                "thing": one["thing"],
                "found": f"{one['message']} {one['value'] or ''}".strip(),
                "expected": str(one["threshold"]),
                "hint": f"{one['hint']} {one['message'] or ''}".strip(),
            }
    return {}
