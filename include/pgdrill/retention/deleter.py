"""The backup tool's own deleting.

The tool is asked first what it would take. That is compared with the plan, and then it is told to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pgdrill.errors import CouldNotVerify, PgdrillError
from pgdrill.host.process import Command, Completed, ProcessTimeout, Runner
from pgdrill.repository.failures import tool_failure, tool_timeout
from pgdrill.repository.repository import Repository
from pgdrill.repository.tools.base import Entry
from pgdrill.repository.wal_ranges import Position
from pgdrill.retention.plan import Plan, Step

# The words of S3 stores for objects under a retention period or a legal hold.
LOCKED = re.compile(
    r"WORM|object.?lock|ObjectLocked|legal.?hold|retention (?:period|mode)", re.IGNORECASE
)
SHOWN = 5


@dataclass(frozen=True)
class Deleter:
    """A deleter, with the tool, of what a plan names.

    ``keys``: every object of the repository; ``entries``: the catalog by name.
    """

    repository: Repository
    runner: Runner
    plan: Plan
    home: Path
    keys: Mapping[str, int]
    entries: Mapping[str, Entry]
    segment_bytes: int

    def mark(self, name: str, *, permanent: bool) -> None:
        """Protect a backup, or no longer."""
        done = self._run(
            self.repository.tool.mark(name, permanent=permanent, home=self.home), f"marking {name}"
        )
        if done.code:
            raise tool_failure(f"{'marking' if permanent else 'unmarking'} {name} permanent", done)

    def there(self, name: str) -> bool:
        """Return whether anything of a backup is left."""
        keys = self.entries[name].keys
        folder = next(iter(keys)).partition(name)[0]
        return not keys.keys().isdisjoint(self.repository.objects.sizes(folder))

    def check(self, step: Step) -> set[str]:
        """Return what the tool would delete in this step.

        Raises ``tool-differs`` if that is anything the plan does not name.
        """
        command = self._command(step, confirm=False)
        if command is None:
            return set()
        done = self._run(command, f"dry run of {step.kind} {step.name}")
        if done.code:
            raise tool_failure(f"dry run of {step.kind} {step.name}", done)
        named = self.repository.tool.named(done.stdout, self.keys)
        strange = sorted(key for key in named if not self._meant(step, key))
        if strange:
            raise CouldNotVerify(
                "tool-differs",
                f"{self.repository.tool.name}'s dry run of {step.kind} {step.name}",
                found=f"{len(strange)} objects that the plan keeps: {', '.join(strange[:SHOWN])}",
                expected="nothing but what the plan names",
                hint=(
                    "nothing was deleted in this step; run `pgdrill prune` again, and if it says"
                    " the same, report it with both lists"
                ),
            )
        return named

    def delete(self, step: Step) -> str:
        """Delete what a step names.

        Returns the tool's words where the store did not let it, for objects under a lock are no
        failure.
        """
        command = self._command(step, confirm=True)
        if command is None:
            return ""
        done = self._run(command, f"{step.kind} {step.name}")
        if done.code == 0:
            return ""
        said = next(
            (line for line in (*done.stdout.splitlines(), *done.last_lines) if LOCKED.search(line)),
            "",
        )
        if said:
            return said.strip()[:300]
        if self.repository.tool.crashed_when_refused(done.stdout):
            raise CouldNotVerify(
                "storage-refused",
                f"{step.kind} {step.name}",
                found=(
                    "the store refused the deletion, upon which"
                    f" {self.repository.tool.name} crashed"
                ),
                expected="permission to delete",
                hint=(
                    "give these keys s3:DeleteObject on the repository's prefix, then run it again"
                ),
            )
        raise tool_failure(f"{step.kind} {step.name}", done)

    def _command(self, step: Step, *, confirm: bool) -> Command | None:
        if step.kind == "delete-wal":
            return self.repository.tool.delete_wal(
                self.repository.objects, home=self.home, confirm=confirm
            )
        return self.repository.tool.delete(step.name, home=self.home, confirm=confirm)

    def _meant(self, step: Step, key: str) -> bool:
        if step.kind == "delete-backup" and key in self._doomed:
            return True
        alone = self.repository.tool.frees_wal_alone
        segment = self.repository.tool.wal_key(key)
        return (
            bool(segment)
            and (step.kind == "delete-wal" or not alone)
            and self.plan.frees(self._position(segment))
        )

    @cached_property
    def _doomed(self) -> frozenset[str]:
        """The objects of every backup that goes.

        A base backup takes the deltas that build on it along.
        """
        return frozenset(
            key
            for name in self.plan.going("backup")
            if name in self.entries
            for key in self.entries[name].keys
        )

    def _position(self, segment: str) -> Position:
        per_id = 0x100000000 // self.segment_bytes
        return int(segment[:8], 16), int(segment[8:16], 16) * per_id + int(segment[16:], 16)

    def _run(self, command: Command, what: str) -> Completed:
        policy = self.repository.cluster.retention
        limit = policy.timeout_seconds
        command = replace(
            command,
            environment={
                **command.environment,
                **self.repository.tool.segment_environment(self.segment_bytes),
            },
        )
        try:
            return self.runner.run(
                command, timeout_seconds=limit, stall_seconds=policy.stall_seconds, quiet=True
            )
        except ProcessTimeout as error:
            failure: PgdrillError = tool_timeout(
                what,
                error,
                f"an end within {limit:.0f} s",
                "check the store; raise retention.timeout_seconds",
            )
            raise failure from None
