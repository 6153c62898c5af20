"""A production with a standby, heartbeats and one base backup, each test's own to break."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.baseline.heartbeat import keep_beating
from pgdrill.health import COSTS, HealthFinding, HealthReport, Watcher
from pgdrill_demo.stack import preferred_tool
from tests.damage.small import SmallStack
from tests.integration.worlds import production

TABLE = "CREATE TABLE work (n int)"
PATIENCE_SECONDS = 120.0


@dataclass
class Watched:
    """A stack and its watcher."""

    stack: SmallStack
    beating: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.watcher = Watcher(self.stack.access)

    def look(self, *, wide: bool = False) -> HealthReport:
        return self.watcher.look(COSTS if wide else COSTS[:1], seconds=PATIENCE_SECONDS)

    def until(
        self,
        check: str,
        status: str,
        *,
        wide: bool = False,
        of: Callable[[HealthFinding], bool] = lambda _: True,
    ) -> HealthFinding:
        """Look until a check has that status, as a watcher does."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = self.look(wide=wide)
            told = [one for one in found.findings if one.check == check]
            for one in told:
                if one.status == status and of(one):
                    return one
            assert time.monotonic() < ends, told
            time.sleep(0.2)

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with self.stack.connect() as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def work(self) -> None:
        """Commit something, and end the segment."""
        self.sql("INSERT INTO work SELECT generate_series(1, 100)")
        self.sql("SELECT pg_switch_wal()")

    @property
    def wal_files(self) -> list[Path]:
        """The objects of archived segments, oldest first."""
        folder = self.stack.s3.folder / self.stack.s3.bucket / self.stack.cluster_name
        return sorted(
            file
            for file in folder.rglob("*")
            if file.is_file() and re.fullmatch(r"[0-9A-F]{24}\.\w+", file.name)
        )

    def elsewhere(self, dsn: str, credentials: Credentials | None = None) -> Watcher:
        """A watcher of the same cluster whose server is another one."""
        cluster = self.stack.cluster
        server = cluster.server.model_copy(update={"dsn": dsn})
        return Watcher(
            Access(
                cluster.model_copy(update={"server": server}), credentials or self.stack.credentials
            )
        )


def breakable(stack: SmallStack) -> None:
    """Archive until a file says not to; the standby could do the same."""
    options: dict[str, str] = stack.primary.options  # type: ignore[assignment]
    command = f"test ! -e {stack.home}/broken && {options['archive_command']}"
    mine = {"archive_mode": "on", "archive_timeout": "3", "archive_command": command}
    options.update(mine)
    stack.standby.options.update(mine)  # type: ignore[attr-defined]
    stack.standby.environment.update(stack.primary.environment)  # type: ignore[attr-defined]
    text = stack.config_file.read_text()
    stack.config_file.write_text(
        text.replace("[clusters.agents.drill]", "[clusters.agents.drill]\nrpo_seconds = 20")
    )


def configured(stack: SmallStack) -> None:
    """Name the standby and the heartbeats."""
    text = stack.config_file.read_text()
    text = text.replace(
        "[clusters.agents.repository]",
        f'standby_dsn = "host={stack.home}/sb port=5432 dbname=agents"\n'
        "[clusters.agents.repository]",
    )
    text = text.replace(
        "[clusters.agents.drill]",
        '[clusters.agents.drill]\nheartbeat = "public.pgdrill_heartbeat.at"\nheartbeat_seconds = 1',
    )
    stack.config_file.write_text(text)


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Everything runs, and every look is ok but for what has to be made yet."""
    with production(preferred_tool(), schema=TABLE, prepare=breakable) as stack:
        take_backup(stack.access)
        stack.start_standby()
        configured(stack)
        made = Watched(stack)
        thread = threading.Thread(
            target=keep_beating, args=(stack.access, 1.0, made.beating), daemon=True
        )
        thread.start()
        try:
            yield made
        finally:
            made.beating.set()
            made.watcher.close()
            thread.join()
