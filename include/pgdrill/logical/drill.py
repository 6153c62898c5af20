"""The drill of a dump: it is restored before it counts.

The steps are fetch, restore into a throw-away cluster, rehearse migrations, check, destroy.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pgdrill import version
from pgdrill.access import Access
from pgdrill.baseline.habits import Habits
from pgdrill.checks import FAMILIES
from pgdrill.checks.runner import checking, forget_roles, tenancy_of
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.host.fence.watch import Watch
from pgdrill.host.priority import low_priority_words
from pgdrill.host.process import Runner
from pgdrill.logical import checks, data_kept, migrations, pg_dump, scratch_cluster, store
from pgdrill.logical import manifest as manifests
from pgdrill.logical.definitions import granted_by
from pgdrill.logical.manifest import Manifest
from pgdrill.logical.pg_restore import Progress, Restore
from pgdrill.logical.report import DumpReport, DumpServer
from pgdrill.logical.restore import check_files, fetch, restore
from pgdrill.logical.take import definitions
from pgdrill.recovery.holding import begin_anew, drill_lock, ends_at, holding, keep_until_end
from pgdrill.recovery.room import keeping_free
from pgdrill.recovery.sweep import sweep_first
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.deviations import noted
from pgdrill.reports.drill_id import new_drill_id
from pgdrill.reports.model import NO_VECTORS, CheckResult, Stage
from pgdrill.repository.leases import end_protection, protecting

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """The choices of a person.

    ``bin_dir`` of another PostgreSQL, ``migrations`` (a folder), and ``may_change``: tables that
    those may change.
    """

    dump: str = "LATEST"
    families: Sequence[str] = FAMILIES
    bin_dir: str = ""
    migrations: Path | None = None
    may_change: Sequence[str] = ()
    keep: bool = False
    trigger: str = "cli"


def drill_dump(
    access: Access,
    options: Options | None = None,
    *,
    drill_id: str = "",
    runner: Runner | None = None,
    progress: Progress = lambda *_: None,
) -> DumpReport:
    """Drill a dump, from the fetch to the end. The report says how it went.

    Nothing is raised for what the report can hold.
    """
    options, drill_id, runner = options or Options(), drill_id or new_drill_id(), runner or Runner()
    sweep_first(access)
    manifest = manifests.choose(access, options.dump)
    if options.migrations:
        # migrations that cannot be run are named before anything is begun
        migrations.read_folder(options.migrations)
    access = scratch_cluster.for_target(access, manifest, options.bin_dir)
    workspace = Workspace.of(access, drill_id)
    report = DumpReport(
        drill_id=drill_id,
        dump_id=manifest.dump_id,
        cluster=access.cluster.name,
        trigger=options.trigger,
        started_at=datetime.now(UTC),
        host=socket.gethostname(),
        pgdrill=version(),
        dump_server_version=manifest.server_version,
        durability=access.cluster.drill.durability,
        migrated=bool(options.migrations),
        stored_bytes=manifest.stored_bytes,
    )
    end = ends_at(access, report.started_at)
    # a drill that does not get the lock has begun nothing, and leaves no report
    with holding(access, workspace, end) as stale:
        try:
            with protecting(access, drill_id, report) as protection:
                protection.choose(manifest.dump_id)
                # still there, now that nobody will delete it
                manifests.choose(access, manifest.dump_id)
                begin_anew(access, workspace, stale, end)
                with _stage(access, report, report.restore):
                    workspace.create()
                    with keeping_free(access, workspace, runner):
                        work = _restore(access, workspace, manifest, report, runner, progress)
                if report.restore.status == "ok":
                    with _stage(access, report, report.checks):
                        progress("checks", 0, 0)
                        with keeping_free(access, workspace, runner, report.results):
                            _check(work, report, options)
                            if options.keep:
                                forget_roles(
                                    work.roles(), [database.name for database in manifest.databases]
                                )
                        report.deviations = noted(access.cluster.deviations, report.results)
        finally:
            end_protection(access, drill_id)
            if not options.keep or report.restored is None or runner.stopped:
                _destroy(access, workspace, report)
            else:
                report.restored.expires_at = keep_until_end(access, workspace, report.started_at)
                store.save_report(access, report)
    return report


def _restore(
    access: Access,
    workspace: Workspace,
    manifest: Manifest,
    report: DumpReport,
    runner: Runner,
    progress: Progress,
) -> Restore:
    runner.pid_file, runner.before = (
        workspace.tool_pid_file,
        low_priority_words(access.cluster.drill.priority),
    )
    check_files(access, manifest)
    scratch_cluster.room_for(workspace, manifest, access.cluster.drill.keep_free_bytes)
    started = time.monotonic()
    fence = workspace.fence(access)
    report.fence = fence.shown
    server = scratch_cluster.make_cluster(access, workspace, manifest, fence)
    report.timings.initdb_seconds = time.monotonic() - started
    where = f"PostgreSQL {access.binaries.major_version} in {access.binaries.folder}"
    with server.connect() as connection:
        for database in manifest.databases:
            for newer in scratch_cluster.check_extensions(connection, database, where):
                report.notes.append(newer)
            scratch_cluster.check_index_options(connection, database, where)
    work = Restore(
        access,
        manifest,
        workspace.directory / "dump",
        server,
        runner,
        report.timings,
        progress,
        report.builds,
        report.notes,
    )
    fetch(work)
    restore(work)
    with server.connect() as connection:
        version = connection.info.parameter_status("server_version") or ""
    report.restored = DumpServer(
        directory=str(workspace.directory),
        socket_directory=str(workspace.socket_directory),
        port=server.port,
        server_version=version,
        expires_at=workspace.expires_at,
    )
    return work


def _check(work: Restore, report: DumpReport, options: Options) -> None:
    """Check what came back, then, if migrations are rehearsed, what they left of it."""
    report.results.clear()
    with Workspace.of(work.access, report.drill_id).watch(work.access) as watch:
        context = context_of(work, watch)
        started = time.monotonic()
        for result in checks.ask(context, options.families):
            report.results.append(result)
            if result.family == "vectors":
                report.timings.vector_checks_seconds = time.monotonic() - started
        report.compared = context.cache.compared
    _proved_search(work, report, options)
    if not options.migrations or any(result.status == "fail" for result in report.results):
        return
    if rehearse_migrations(work, report, options):
        report.results.extend(_named_after(checks.ask_again(context_of(work), options.families)))


def rehearse_migrations(work: Restore, report: DumpReport, options: Options) -> bool:
    """Run the migrations and compare what they left with what was there.

    Returns False if one of them failed.
    """
    assert options.migrations  # noqa: S101 - asked for
    steps = migrations.read_folder(options.migrations)
    before = data_kept.remember(work)
    taken = work.hands.begin()
    started = time.monotonic()
    try:
        results = migrations.apply(work, options.migrations, steps, report.statements)
    finally:
        report.timings.migrations_seconds = time.monotonic() - started
        work.hands.end(taken)
    report.results.extend(results)
    if results[-1].status == "fail":
        return False
    report.results.extend(data_kept.kept(work, before, options.may_change))
    return True


def _proved_search(work: Restore, report: DumpReport, options: Options) -> None:
    """Raise ``no-vectors`` where vector search could not be asked about.

    A dump without vectors came back, perhaps to the bit; that vector search is right on it nobody
    can say. Where all that is protected was dumped, and there is no pgvector in it, there is
    nothing to say.
    """
    if (
        "vectors" in options.families
        and not never_had_vectors(work)
        and not any(
            r.family == "vectors" and r.status != "skip" and r.value != NO_VECTORS
            for r in report.results
        )
    ):
        names = ", ".join(database.name for database in work.manifest.databases)
        raise CouldNotVerify(
            "no-vectors",
            f"dump {work.manifest.dump_id}",
            found=f"no vector column in {names}",
            expected="at least one, to search in",
            hint=(
                "name the databases that hold vectors in dump.databases; every other answer is in"
                " the report"
            ),
        )


def never_had_vectors(work: Restore) -> bool:
    """Return whether none of the protected databases had pgvector.

    Of a choice of them (dump.databases) that is not known.
    """
    return not work.access.cluster.dump.databases and not any(
        "vector" in database.extensions for database in work.manifest.databases
    )


def _named_after(results: Iterator[CheckResult]) -> Iterator[CheckResult]:
    for result in results:
        yield result.model_copy(update={"name": f"{result.name} (migrated)"})


def context_of(work: Restore, watch: Watch | None = None) -> checks.DumpContext:
    """Return what the checks look at: the restored cluster, read as the dumped one was."""
    access, manifest = work.access, work.manifest
    same_major = access.binaries.major_version == manifest.server_major
    found, text = {}, []
    for database in manifest.databases:
        command = pg_dump.schema_command(access.binaries, work.environment(database.name))
        found[database.name] = definitions(
            access,
            command,
            f"restored definitions of {database.name}",
            work.runner,
            (work.hands.superuser, manifest.superuser),
        )
    command = pg_dump.globals_command(
        access.binaries, work.environment("postgres"), passwords=False, tablespaces=False
    )
    pg_dump.run(
        work.runner,
        command,
        "restored roles",
        access,
        on_stdout=lambda pipe, _: text.append(pipe.read()),
    )
    found_roles = [
        granted_by(line, work.hands.superuser, manifest.superuser)
        for line in b"".join(text).decode(errors="replace").splitlines()
    ]
    dumped = access.dumps.read(manifests.key(manifest.dump_id, manifest.global_objects.name)) or b""
    roles, limit = work.roles(), access.cluster.drill.statement_timeout_seconds
    return checks.DumpContext(
        cluster=access.cluster,
        connect=checking(roles.connect, limit),
        made_roles=roles,
        tenancy=tenancy_of(roles, limit),
        databases=tuple(database.name for database in manifest.databases),
        prepare=work.hands.server.system,
        manifest=manifest,
        without_vectors=never_had_vectors(work),
        definitions=found,
        roles=(dumped.decode(errors="replace"), "\n".join(found_roles)),
        same_major=same_major,
        watch=watch,
        habits=Habits(
            access, work.runner, at=manifest.started_at, identifier=int(manifest.system_identifier)
        ).of,
    )


def _destroy(access: Access, workspace: Workspace, report: DumpReport) -> None:
    started = time.monotonic()
    try:
        workspace.destroy()
        drill_lock(access).release(workspace.directory.name)
        report.cleanup.status, report.restored = "ok", None
    except BaseException as error:
        report.cleanup.fail(error)
        raise
    finally:
        report.cleanup.seconds = time.monotonic() - started
        report.ended_at = datetime.now(UTC)
        store.save_report(access, report)


@contextlib.contextmanager
def _stage(access: Access, report: DumpReport, stage: Stage) -> Iterator[None]:
    """Time a stage, keep its error in the report, and write that whatever happens."""
    started = time.monotonic()
    stage.status, stage.trouble = "running", None
    store.save_report(access, report)
    try:
        yield
        stage.status = "ok"
    except BaseException as error:
        stage.fail(error)
        if not isinstance(error, BackupFault | CouldNotVerify):
            raise  # a stopped job, a wrong argument, a bug
        logger.error("%s", error)  # noqa: TRY400 - the message is made for people, the traceback is not
    finally:
        stage.seconds = time.monotonic() - started
        report.judge()
        store.save_report(access, report)
