"""The facts of a backup tool that need none of its code."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """What is known of a backup tool before it is used."""

    name: str  # as repository.tool has it
    adapter: str  # module:class of what builds its commands and reads its listings
    program: str  # looked for on PATH
    url_schemes: tuple[str, ...]  # of repository.url
    compressions: tuple[str, ...]  # that it can write and read again; the first is the default
    tried: tuple[Version, ...]  # pgdrill's tests pass with these
    oldest: Version  # that has everything pgdrill uses
    failures: str = ""  # module:rows of what only this tool's last words mean
    https_only: bool = False  # it speaks no plain http to an S3 store
    programs_folder: bool = False  # repository.binary names the folder of several programs

    @property
    def default_compression(self) -> str:
        """The compression where the configuration names none."""
        return self.compressions[0]

    def executable(self, configured: str) -> str:
        """Return the program to look for, by what repository.binary says."""
        if configured and self.programs_folder:
            return f"{configured.rstrip('/')}/{self.program}"
        return configured or self.program

    def found(self, configured: str = "") -> str | None:
        """Return where the program is on this host, or None."""
        return shutil.which(self.executable(configured))
