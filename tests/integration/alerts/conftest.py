"""A cluster whose report store is a folder, and channels to local servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgdrill import config
from pgdrill.access import Access
from pgdrill.alerts import Alerting
from tests.integration.alerts.servers import Listening, listening


@pytest.fixture
def server() -> Iterator[Listening]:
    with listening() as found:
        yield found


@pytest.fixture
def second() -> Iterator[Listening]:
    with listening() as found:
        yield found


@pytest.fixture
def alerting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Alerting]:
    """Make the alerting of one cluster; the same place at each call."""
    monkeypatch.setenv("ALERT_SECRET", "sekret-of-the-channel")

    def make(*channels: dict[str, Any], pings: Any = (), **more: Any) -> Alerting:
        place = more.pop("place", "host")
        data = {
            "clusters": {
                "agents": {
                    "server": {"data_directory": "/pgdata"},
                    "repository": {"url": f"file://{tmp_path}/store"},
                    "drill": {"work_directory": str(tmp_path / place)},
                }
            },
            "alerts": {
                "channels": [{"secret_variable": "ALERT_SECRET", **one} for one in channels],
                "pings": list(pings),
            },
        }
        settings = config.parse(data, tmp_path / "dr.toml")
        assert settings.wrong == {}
        access = Access(settings.cluster("agents"))
        return Alerting(access, settings.alerts, pause=lambda _: None, **more)

    return make
