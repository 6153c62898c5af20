"""The drill's checks, asked of a cluster that somebody else restored.

Nothing is restored, changed or removed; what only a drill can know (its target, its RPO) is skipped
and said so.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import Field, ValidationError

from pgdrill.access import CONNECT_SECONDS, Access
from pgdrill.baseline import BASELINE_VERSION, Baseline, every_database, settle_catalogs
from pgdrill.baseline.habits import Habits
from pgdrill.baseline.production import Production
from pgdrill.checks import FAMILIES, FOREIGN_FAMILIES, Context, run_checks
from pgdrill.checks.runner import checking, settled
from pgdrill.config import Cluster
from pgdrill.errors import ConfigError, Unreachable
from pgdrill.host.process import Runner
from pgdrill.postgres import session
from pgdrill.postgres.roles import powers
from pgdrill.reports.deviations import noted
from pgdrill.reports.model import CheckResult, Compared, KnownDeviation, Part, Stage, Verdict, judge

logger = logging.getLogger(__name__)


class Verification(Part):
    """The checks' answers about one server, which ``server`` names without any password."""

    cluster: str
    server: str
    started_at: datetime
    asked_as: str
    seconds: float
    baseline_taken_at: datetime | None
    compared: Compared | None = None
    results: list[CheckResult] = Field(default_factory=list)
    deviations: list[KnownDeviation] = Field(default_factory=list)
    verdict: Verdict
    reason: str


def verify(
    access: Access,
    dsn: str,
    *,
    families: Sequence[str] = FOREIGN_FAMILIES,
    baseline: Baseline | None = None,
    as_superuser: bool = False,
) -> Verification:
    """Ask every check of the server at ``dsn``.

    Without a baseline, what has to be compared stays unanswered.

    As a superuser it asks only where that is meant: whatever users wrote into indexes and CHECKs
    runs with the rights of who asks.
    """
    server = Restored(dsn, as_superuser=as_superuser)
    started_at, clock = datetime.now(UTC), time.monotonic()
    asked_as = server.role()  # a server that does not answer is no check's result
    there = server.databases()
    # a backup's record: of no instant that anybody recovers to
    older = baseline is not None and not baseline.restore_point
    if baseline and older:
        baseline = baseline.as_of_before(server.next_xid())
    context = Context(
        cluster=access.cluster,
        connect=checking(server.connect, access.cluster.drill.statement_timeout_seconds),
        databases=tuple(name for name in access.cluster.server.databases or there if name in there),
        baseline=baseline,
        older_baseline=older,
        home=server.home,
        bare=server.bare,
        habits=Habits(access, Runner()).of,
        production_now=Production(access).catalogs,
        settle=functools.cache(lambda: settled(access, baseline)),
        settle_catalogs=functools.cache(lambda: settled(access, baseline, only=settle_catalogs)),
    )
    with context.closing:
        results = list(run_checks(context, [family for family in FAMILIES if family in families]))
    verdict, reason = judge(Stage(status="ok"), Stage(status="ok"), results)
    return Verification(
        cluster=access.cluster.name,
        server=str(server),
        started_at=started_at,
        asked_as=asked_as,
        seconds=time.monotonic() - clock,
        baseline_taken_at=baseline.taken_at if baseline else None,
        results=results,
        deviations=noted(access.cluster.deviations, results),
        verdict=verdict,
        reason=reason,
        compared=context.cache.compared,
    )


class Restored:
    """A server by its connection string.

    The string must not hold a password: arguments are seen by everybody.
    """

    def __init__(self, dsn: str, *, as_superuser: bool = False) -> None:
        self.as_superuser, self.version = as_superuser, 0
        try:
            self.words = {
                key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None
            }
        except psycopg.ProgrammingError:
            # Neither the string nor libpq's words about it: both may show a password.
            raise ConfigError(
                "bad-dsn",
                "--dsn",
                found="no libpq connection string",
                expected="`host=… port=… user=… dbname=…` or postgresql://user@host:port/dbname",
                hint="correct it; quote values that hold spaces",
            ) from None
        if "password" in self.words:
            raise ConfigError(
                "password-in-dsn",
                "--dsn",
                found="a password, which every user of this host can read",
                expected="a connection string without one",
                hint="use PGPASSWORD or ~/.pgpass, and change that password",
            )

    @property
    def home(self) -> str:
        """The database for questions of the whole cluster: the one that ``--dsn`` names."""
        return self.words.get("dbname", "postgres")

    def connect(self, database: str) -> psycopg.Connection:
        """Open a connection to one of its databases."""
        defaults = {"application_name": "pgdrill", "connect_timeout": str(CONNECT_SECONDS)}
        try:
            return session.connect(
                {**defaults, **self.words, "dbname": database}, superuser=self.as_superuser
            )
        except psycopg.OperationalError as error:
            raise Unreachable(
                "server-unreachable",
                f"restored server at {self}, database {database}",
                found=str(error).strip(),
                expected="a connection",
                hint="check that it runs and accepts connections, --dsn and its pg_hba.conf",
            ) from None

    def bare(self) -> psycopg.Connection:
        """Open a connection that goes by the server's own settings.

        Nobody's code runs in it that a superuser would not run.
        """
        safe = dict(session.SAFE)
        safe |= {"event_triggers": "off"} if self.as_superuser and self.version >= 170000 else {}
        safe |= {"session_preload_libraries": ""} if self.as_superuser else {}
        defaults = {"application_name": "pgdrill", "connect_timeout": str(CONNECT_SECONDS)}
        words = {
            **defaults,
            **self.words,
            "dbname": self.home,
            **session.ENCODING,
            "options": session.options(safe),
        }
        return session.opened(make_conninfo("", **words))

    def role(self) -> str:
        """Return who asks there, which is no superuser unless that is meant."""
        with self.connect(self.home) as connection:
            power, role = powers(connection, connection.info.user), connection.info.user
            self.version = connection.info.server_version
        if power and not self.as_superuser:
            raise ConfigError(
                "asked-as-superuser",
                f"role {role} at {self}",
                found=f"it is or may become {power}",
                expected=(
                    "a role with pg_read_all_data and BYPASSRLS and no more: planning a query alone"
                    " runs what users wrote into indexes and CHECKs"
                ),
                hint=(
                    "use the role that the README makes (user=pgdrill); or say --as-superuser, if"
                    " every owner of a table there is trusted"
                ),
            )
        return (
            f"superuser {role}: what users wrote into tables ran with its rights"
            if power
            else f"role {role}"
        )

    def next_xid(self) -> int:
        """Return the number that its next transaction will get."""
        with self.connect(self.home) as connection:
            row = connection.execute(
                "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
            ).fetchone()
        return int(row[0]) if row else 0

    def databases(self) -> tuple[str, ...]:
        """Return every database that allows connections."""
        with self.connect(self.home) as connection:
            return every_database(connection)

    def __str__(self) -> str:
        return (
            " ".join(
                f"{key}={self.words[key]}" for key in ("host", "port", "user") if key in self.words
            )
            or "libpq's defaults"
        )


def read_baseline(file: Path, cluster: Cluster) -> Baseline:
    """Read a baseline of that cluster.

    It is a file that a drill or ``pgdrill baseline`` keeps, or the record of a backup, which holds
    one.
    """
    baseline = _parsed(file)
    wanted = cluster.server.system_identifier
    if baseline.cluster != cluster.name or (wanted and wanted != baseline.system_identifier):
        # Compared with another cluster's record everything would differ, and nothing would be
        # known.
        raise ConfigError(
            "foreign-baseline",
            str(file),
            found=f"cluster {baseline.cluster}, system identifier {baseline.system_identifier}",
            expected=f"cluster {cluster.name}{f', system identifier {wanted}' if wanted else ''}",
            hint="name the cluster that it was taken of, or take one of this cluster",
        )
    return baseline


def _parsed(file: Path) -> Baseline:
    try:
        data = json.loads(file.read_bytes())
        data = data.get("baseline", data) if isinstance(data, dict) else data
        if isinstance(data, dict) and "cluster" in data and data.get("version") != BASELINE_VERSION:
            raise _no_baseline(
                file,
                f"version {str(data.get('version'))[:20]}, of another pgdrill",
                f"version {BASELINE_VERSION}",
            )
        return Baseline.model_validate(data)
    except OSError as error:
        found = error.strerror or str(error)
    except ValidationError as error:
        found = f"another format ({error.error_count()} errors, first: {error.errors()[0]['msg']})"
    except (ValueError, RecursionError) as error:
        found = f"no JSON ({error})"
    raise _no_baseline(file, found, "a baseline, or the record of a backup, as pgdrill wrote it")


def _no_baseline(file: Path, found: str, expected: str) -> ConfigError:
    return ConfigError(
        "bad-baseline",
        str(file),
        found=found,
        expected=expected,
        hint=(
            "take a new one (`pgdrill baseline`), or one from <work_directory>/<cluster>/baselines/"
            " or backups/ in the report store"
        ),
    )
