"""The full set."""

from __future__ import annotations

from tests.setups import (
    contents,
    rights,
    servers,
    settings,
    signing,
    stores,
    surroundings,
    traps,
    versions,
)
from tests.setups.setup import Setup

FULL: tuple[Setup, ...] = (
    *servers.SETUPS,
    *settings.SETUPS,
    *signing.SETUPS,
    *traps.SETUPS,
    *surroundings.SETUPS,
    *rights.SETUPS,
    *contents.SETUPS,
    *stores.SETUPS,
    *versions.SETUPS,
)
