"""What the tasks of a logical dump hand on."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pgdrill.airflow.xcom.plain import Finding, findings, where

if TYPE_CHECKING:
    from pgdrill.access import Access
    from pgdrill.logical.manifest import Manifest
    from pgdrill.logical.report import DumpReport

LATER = 4  # times the rows of now, for which each index's build is forecast


@dataclass(frozen=True, slots=True)
class DumpResult:
    """A dump that is whole in the store, and not yet restored."""

    dump_id: str
    cluster: str
    server_version: str
    pg_dump_version: str
    from_standby: bool
    stored_bytes: int
    database_bytes: int
    rows: int
    vector_indexes: int
    databases: list[str]
    snapshot_lsns: dict[str, str]
    seconds: float

    @classmethod
    def of(cls, manifest: Manifest) -> DumpResult:
        """From the manifest that was written last."""
        databases = manifest.databases
        return cls(
            dump_id=manifest.dump_id,
            cluster=manifest.cluster,
            server_version=manifest.server_version,
            pg_dump_version=manifest.pg_dump_version,
            from_standby=manifest.from_standby,
            stored_bytes=manifest.stored_bytes,
            database_bytes=sum(database.size_bytes for database in databases),
            rows=sum(database.rows for database in databases),
            vector_indexes=sum(len(database.vector_indexes) for database in databases),
            databases=[database.name for database in databases],
            snapshot_lsns={database.name: database.snapshot_lsn for database in databases},
            seconds=manifest.seconds,
        )


@dataclass(frozen=True, slots=True)
class DumpRestoreResult:
    """The verdict on a dump with the figures behind it.

    ``builds`` and ``forecast_at_four_times_the_rows`` are of its vector indexes, ``statements`` and
    ``rewritten`` of rehearsed migrations, ``findings`` the answers that are no pass.
    """

    drill_id: str
    dump_id: str
    cluster: str
    verdict: str
    reason: str
    checks_pass: int
    checks_warn: int
    checks_fail: int
    checks_skip: int
    stored_bytes: int
    download_seconds: float | None
    downloaded_bytes: int | None
    initdb_seconds: float | None
    roles_seconds: float | None
    data_seconds: float | None
    rows: int | None
    vector_indexes_seconds: float | None
    others_seconds: float | None
    analyze_seconds: float | None
    migrations_seconds: float | None
    restore_seconds: float | None
    vector_checks_seconds: float | None
    rows_per_second: float | None
    builds: list[dict[str, Any]]
    forecast_at_four_times_the_rows: list[dict[str, Any]]
    statements: int
    rewritten: list[str]
    findings: list[Finding]
    report: str

    @classmethod
    def of(cls, access: Access, report: DumpReport) -> DumpRestoreResult:
        """From a report, finished or not, and the builds of earlier ones."""
        count = Counter(result.status for result in report.results)
        return cls(
            drill_id=report.drill_id,
            dump_id=report.dump_id,
            cluster=report.cluster,
            verdict=report.verdict,
            reason=report.reason,
            checks_pass=count["pass"],
            checks_warn=count["warn"],
            checks_fail=count["fail"],
            checks_skip=count["skip"],
            stored_bytes=report.stored_bytes,
            **report.timings.model_dump(mode="json"),
            rows_per_second=report.timings.rows_per_second,
            builds=_builds(report),
            forecast_at_four_times_the_rows=_forecasts(access, report),
            statements=len(report.statements),
            rewritten=sorted({name for run in report.statements for name in run.rewritten}),
            findings=findings(report.results),
            report=where(report.kept_at),
        )


def _builds(report: DumpReport) -> list[dict[str, Any]]:
    return [
        {
            "index": build.index,
            "rows": build.rows,
            "seconds": build.seconds,
            "rows_per_second": build.rows_per_second,
            "fits_in_memory": build.fits,
        }
        for build in report.builds
    ]


def _forecasts(access: Access, report: DumpReport) -> list[dict[str, Any]]:
    from pgdrill.logical.build_forecast import forecast
    from pgdrill.logical.store import builds

    known = builds(access) if report.builds else []
    found = (forecast(known, build.index, LATER * build.rows) for build in report.builds)
    return [asdict(one) for one in found if one]
