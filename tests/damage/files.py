"""Damage to a restored data directory: what a bad disk or a lost write does to it.

A copy takes one damage in each of its sets of relations, so one start and one run of the checks
judge many: every set has to be named by a red check, or hold what it held. Catalogs and the files
of the whole cluster, which any of these could hide behind, get a copy for each damage.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pgdrill.checks import FAMILIES, Context, run_checks
from pgdrill.checks.runner import checking
from pgdrill.errors import CouldNotVerify, PgdrillError
from pgdrill.postgres.server import LocalServer
from pgdrill.postgres.statement_watchdog import ending_stuck
from pgdrill.reports.model import CheckResult, Stage, judge
from tests.copies import server_on_copy
from tests.damage.content import different, read_content, read_sets
from tests.damage.kinds import KINDS, PAGE, sign_changed
from tests.damage.outcome import MISSED, Outcome
from tests.damage.small import SETS, Small, set_name

STATEMENT_SECONDS = 5.0
SET = re.compile(r"\bset_(\d\d)")


@dataclass(frozen=True, slots=True)
class Damage:
    """A file's new content."""

    file: str  # below the data directory
    relation: str
    kind: str
    content: bytes

    @property
    def set_number(self) -> int | None:
        """The set that the relation belongs to."""
        found = SET.search(self.relation)
        return int(found[1]) if found else None


def plan_sets(small: Small, chance: random.Random) -> list[Damage]:
    """One damage for each set."""
    found = []
    for number in range(SETS):
        files = [file for file, relation in small.files.items() if set_name(number) in relation]
        while not (damage := _draw(small, chance, chance.choice(files))):
            pass
        found.append(damage)
    return found


def plan_single(small: Small, chance: random.Random) -> Damage:
    """One damage to what is in no set: catalogs, the commit log, the control file, other
    databases."""
    files = [file for file, relation in small.files.items() if not SET.search(relation)]
    places = sorted({str(Path(file).parent) for file in files})
    while True:
        # or the databases' many files would leave nothing to the commit log
        place = chance.choice(places)
        damage = _draw(
            small,
            chance,
            chance.choice([file for file in files if str(Path(file).parent) == place]),
        )
        if damage:
            return damage


def _draw(small: Small, chance: random.Random, file: str) -> Damage | None:
    before = (small.restored / file).read_bytes()
    kind = chance.choice([*KINDS, "page of an earlier day"])
    after = (
        KINDS[kind](chance, before, PAGE)
        if kind in KINDS
        else _earlier(small, chance, file, before)
    )
    if after is None or after == before:
        return None
    paged = (
        len(before) % PAGE == 0
        and file.startswith(("base", "global"))
        and not file.endswith(("pg_control", "pg_filenode.map"))
    )
    if (
        paged
        and not kind.startswith("cut")
        and (kind == "page of an earlier day" or chance.random() < 0.7)
    ):
        after, kind = sign_changed(before, after), f"{kind}, checksum right"
        if after == before:  # the flipped bit was the checksum's
            return None
    return Damage(file, small.files[file], kind, after)


def _earlier(small: Small, chance: random.Random, file: str, now: bytes) -> bytes | None:
    """A lost write: one page as it was when the base backup was taken."""
    old = small.fetched / file
    if not old.exists():
        return None
    before = old.read_bytes()
    changed = [
        at
        for at in range(0, min(len(before), len(now)), PAGE)
        # LSN, checksum and flags aside
        if before[at + 12 : at + PAGE] != now[at + 12 : at + PAGE]
    ]
    if not changed:
        return None
    at = chance.choice(changed)
    return now[:at] + before[at : at + PAGE] + now[at + PAGE :]


@contextmanager
def damaged(small: Small, damages: list[Damage]) -> Iterator[LocalServer]:
    """A copy of the restored cluster with those files, not started."""
    with server_on_copy(small.restored, small.stack, small.idle, shared_buffers="64MB") as server:
        for damage in damages:
            (server.data_directory / damage.file).write_bytes(damage.content)
        yield server


def ask(small: Small, server: LocalServer) -> Iterator[CheckResult]:
    """Every check, as a drill asks them of its own cluster."""
    context = Context(
        cluster=small.stack.cluster,
        connect=checking(lambda name: server.connect(name, autocommit=False), STATEMENT_SECONDS),
        databases=tuple(small.baseline.databases),
        baseline=small.baseline.model_copy(deep=True),
        settle=lambda: True,
        prepare=server.connect,
    )
    return run_checks(context, FAMILIES)


def judge_sets(small: Small, damages: list[Damage]) -> list[Outcome]:
    """Damages to different sets at once; those that no check named, and that changed something,
    once more alone.
    """
    outcomes, again = [], []
    with damaged(small, damages) as server:
        server.start()
        red: list[str] = []
        with ending_stuck(server, STATEMENT_SECONDS):
            # the server may end under a check
            with contextlib.suppress(psycopg.Error, PgdrillError):
                red.extend(
                    f"{r.name} {r.thing} {r.message}"
                    for r in ask(small, server)
                    if r.status == "fail"
                )
            for damage in damages:
                number = damage.set_number or 0
                if words := [words for words in red if set_name(number) in words]:
                    outcomes.append(_outcome(damage, "checks", words[0]))
                elif different(small.content, read_sets(server, set_name, [number])):
                    again.append(damage)
                else:
                    outcomes.append(_outcome(damage, "same content"))
    return outcomes + [judge_single(small, damage) for damage in again]


def judge_single(small: Small, damage: Damage) -> Outcome:
    """One damage alone: a drill's verdict, and where it would be green, the content."""
    with damaged(small, [damage]) as server:
        try:
            server.start()
        except CouldNotVerify as error:
            return _outcome(damage, "start", error.problem.found)
        with ending_stuck(server, STATEMENT_SECONDS):
            results: list[CheckResult] = []
            try:
                for result in ask(small, server):
                    results.append(result)
                    if result.status == "fail":
                        break  # one is enough
                verdict, reason = judge(Stage(status="ok"), Stage(status="ok"), results)
            except (psycopg.Error, PgdrillError) as error:
                # as in a drill, whose stage is then not "ok"
                verdict, reason = "could not verify", f"{type(error).__name__} {error}"
            if verdict != "passed":
                return _outcome(damage, "checks", reason)
            changed = different(small.content, read_content(server, set_name))
    return (
        _outcome(damage, MISSED, ", ".join(changed))
        if changed
        else _outcome(damage, "same content")
    )


def _outcome(damage: Damage, end: str, words: str = "") -> Outcome:
    area = "restored relations" if damage.set_number is not None else "restored cluster"
    return Outcome(area, damage.kind, f"{damage.relation} ({damage.file})", end, words[:200])
