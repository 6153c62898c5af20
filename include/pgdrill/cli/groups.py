"""What ``pgdrill --help`` lists: every command under the step it belongs to, in the order in which
one comes to need them.

Typer groups commands in Rich's boxes only. This help is plain text, which pipes, logs and small
terminals show as it is.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from pgdrill.renamed import now_called

STEPS: dict[str, tuple[str, ...]] = {
    "Set up": ("init", "config", "doctor", "archive-command", "label", "heartbeat"),
    "Back up": ("backup", "backups", "dump", "dumps", "baseline"),
    "Prove": ("drill", "destroy", "verify", "report", "checks"),
    "Watch": ("health", "watch", "alert", "silence"),
    "Keep": ("prune", "window", "hold", "leases"),
    "Restore": ("restore-table",),
    "Queues in Redis": ("queue",),
    "Plan": ("forecast", "migrate"),
    "Clear up": ("sweep",),
}
# The words of commands that have become others.
RENAMED: dict[tuple[str, ...], str] = {
    ("dump", "take"): "dump",
    ("dump", "restore"): "restore-table",
}
IN_ORDER = [name for names in STEPS.values() for name in names]


class InSteps(TyperGroup):
    """The commands of the program, shown step by step, each with its whole first sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the commands in the order of use."""
        return [name for name in IN_ORDER if name in self.commands]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; by the words that it had, with a warning."""
        if new := RENAMED.get(tuple(args[:2])):
            words = now_called(f"pgdrill {' '.join(args[:2])}", f"pgdrill {new}")
            typer.echo(f"pgdrill: {words}", err=True)
            args = [new, *args[2:]]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each step, with the words of all sections below each other."""
        width = max(map(len, self.commands))
        for step, names in STEPS.items():
            known = [(name, self.commands[name]) for name in names if name in self.commands]
            with formatter.section(step):
                formatter.write_dl(
                    [(name.ljust(width), found.get_short_help_str(1000)) for name, found in known]
                )
