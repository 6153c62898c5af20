"""Emptiness where something was known is a failure to see: no job takes it for "nothing is to be
done".
"""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pgdrill.access import Access, Credentials
from pgdrill.baseline import backup_record
from pgdrill.cli import main
from pgdrill.config import load
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.host.process import Runner
from pgdrill.logical import store as keep
from pgdrill.logical.report import DumpReport
from pgdrill.postgres.wal import Segment
from pgdrill.recovery.goal import Goal
from pgdrill.recovery.preflight import choose_backup, preflight
from pgdrill.recovery.targets import RecoveryTarget
from pgdrill.reports import store
from pgdrill.reports.forecast import collect
from pgdrill.reports.known_backups import check_backups
from pgdrill.reports.model import Stage
from pgdrill.repository import ledger, prune_runs
from pgdrill.retention import journal
from pgdrill.retention.prune import look, prune
from tests.conftest import need
from tests.reports import passed_report
from tests.unit.repository.tools.test_tools import SENTINEL, a_walg_backup, put

NAMES = [f"base_0000000100000000000000{number:02X}" for number in (2, 4, 6)]
FIRST, SECOND, NEWEST = NAMES
NOW = datetime.now(UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    need("wal-g")
    file = tmp_path / "dr.toml"
    file.write_text(
        '[clusters.agents]\nowner = "x"\n[clusters.agents.server]\ndsn ='
        f' "host=/nowhere"\ndata_directory = "{tmp_path}"\n[clusters.agents.repository]\nurl ='
        f' "file://{tmp_path}/repository"\n[clusters.agents.drill]\nwork_directory ='
        f' "{tmp_path}/work"\n[clusters.agents.retention]\nrequire_drill = false\nweekly ='
        " 1\nmonthly = 0\nyearly = 0\nmax_share = 1.0\n"
    )
    return file


@pytest.fixture
def access(config: Path) -> Access:
    """Three base backups with records and their WAL, 120 to 100 days old."""
    made = Access(load(config).cluster("agents"))
    for number, name in enumerate(NAMES):
        a_backup(made, name, NOW - timedelta(days=120 - 10 * number))
        made.reports.write(backup_record.key(name), b"{}")
    return made


def a_backup(access: Access, name: str, at: datetime) -> None:
    segment = Segment.parse(name.removeprefix("base_"))
    lsn = segment.start_lsn + 0x28
    a_walg_backup(
        access.objects,
        name,
        LSN=lsn,
        FinishLSN=lsn + 0x100,
        StartTime=at.isoformat(),
        FinishTime=at.isoformat(),
    )
    access.objects.write(
        f"basebackups_005/{name}/metadata.json", json.dumps({"is_permanent": False}).encode()
    )
    for number in (segment.number, segment.number + 1):
        put(access.objects, f"wal_005/{Segment(1, number).name}.lz4")


def remove(access: Access, *names: str) -> None:
    for name in names or NAMES:
        access.objects.delete(
            *(key for key in access.objects.sizes("basebackups_005/") if name in key)
        )


def reasons(access: Access, **more: object) -> list[str]:
    return [problem.reason for problem in look(access, Runner(), now=NOW, **more).refusals]  # type: ignore[arg-type]


def refused(access: Access) -> CouldNotVerify:
    """Plan and run both say it."""
    outlook = look(access, Runner(), now=NOW)
    with pytest.raises(CouldNotVerify) as caught:
        prune(access, Runner(), now=NOW)
    assert caught.value.problem == outlook.refusals[0]
    return caught.value


def pgdrill(config: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["--config", str(config), *words])
    return int(end.value.code or 0)


def test_nothing_is_said_where_everything_known_is_there(access: Access) -> None:
    assert look(access, Runner(), now=NOW).inventory.unseen == ()
    check_backups(access, access.repository.backups())


def test_a_repository_that_suddenly_lists_as_empty_is_refused_everywhere(
    access: Access, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(access.repository.url.removeprefix("file://") + "/basebackups_005")
    shutil.rmtree(access.repository.url.removeprefix("file://") + "/wal_005")
    error = refused(access)
    assert error.problem.reason == "missing"
    assert "0 of 3" in error.problem.found
    assert NEWEST in error.problem.found
    assert "its record" in error.problem.found
    assert f"{NOW:%Y-%m-%d}" in error.problem.found  # when it was written
    for words in (
        ["prune"],
        ["prune", "--apply"],
        ["window"],
        ["backups"],
        ["backups", "--json"],
        ["forecast", "rto", "--no-probe"],
    ):
        assert pgdrill(config, *words) == 2, words
        said = capsys.readouterr()
        assert NEWEST in said.out + said.err
        assert "0 stay" not in said.out
    with pytest.raises(CouldNotVerify, match=NEWEST):
        collect(access)
    with pytest.raises(BackupFault):
        choose_backup(access.repository.backups(), "LATEST", RecoveryTarget("latest"), "here")


@pytest.mark.parametrize("gone", [FIRST, SECOND, NEWEST])
def test_one_that_is_missing_is_named_and_stops_a_prune(access: Access, gone: str) -> None:
    remove(access, gone)
    error = refused(access)
    assert gone in error.problem.found
    assert "2 of 3" in error.problem.found
    if gone == FIRST:  # somebody else's retention takes the oldest: no failure to see
        check_backups(access, access.repository.backups())
    else:
        with pytest.raises(CouldNotVerify, match=gone):
            check_backups(access, access.repository.backups())


def test_a_drill_of_the_latest_is_not_one_of_an_older_without_a_word(
    access: Access, tmp_path: Path
) -> None:
    remove(access, NEWEST)
    target, directory = RecoveryTarget("name", "x"), tmp_path / "none"
    with pytest.raises(BackupFault) as caught:
        preflight(access, Goal("LATEST", target), history=(), directory=directory)
    assert caught.value.problem.reason == "missing"
    assert NEWEST in caught.value.problem.found
    with pytest.raises(Exception) as other:
        preflight(access, Goal(SECOND, target), history=(), directory=directory)
    assert "missing" not in repr(other.value)


def test_what_was_deleted_on_purpose_is_let_go_once_and_for_all(
    access: Access, config: Path
) -> None:
    remove(access, SECOND)
    assert pgdrill(config, "prune", "--apply") == 2
    assert reasons(access, allowed=["missing"]) == []
    ledger.forget(access.reports, [SECOND])
    assert look(access, Runner(), now=NOW).inventory.unseen == ()
    check_backups(access, access.repository.backups())


def test_a_run_that_is_allowed_to_remembers_it(access: Access) -> None:
    remove(access, FIRST, SECOND)
    result = prune(access, Runner(), now=NOW, allowed=["missing"])
    assert result.backups_kept == 1
    assert ledger.read_ledger(access.reports).forgotten == [FIRST, SECOND]
    assert "missing" not in reasons(access)


def test_what_retention_deleted_itself_is_not_missing(access: Access) -> None:
    outlook = look(access, Runner(), now=NOW)
    run = journal.begin(access, outlook.plan, NOW)
    run.steps = [
        prune_runs.StepRecord(kind="delete-backup", name=FIRST, state="done"),
        prune_runs.StepRecord(kind="delete-backup", name=SECOND),
    ]
    prune_runs.write(
        access.reports, run
    )  # as one that was killed leaves it: the second may be done or not
    remove(access, FIRST, SECOND)
    assert look(access, Runner(), now=NOW).inventory.unseen == ()


@pytest.mark.parametrize("memory", ["ledger", "local report", "report in the store"])
def test_everything_that_remembers_is_asked(access: Access, memory: str) -> None:
    access.reports.delete(*(backup_record.key(name) for name in NAMES))
    if memory == "ledger":
        ledger.write_ledger(access.reports, ledger.Ledger(marked=[SECOND]))
    else:
        store.save_report(access, passed_report("d1", backup=SECOND))
        place = store.report_file(access, "d1")
        (
            place.unlink()
            if memory == "report in the store"
            else access.reports.delete("reports/d1.json")
        )
    remove(access, SECOND)
    assert SECOND in str(refused(access))


def test_another_prefix_is_refused_though_no_metadata_is_there_either(
    access: Access, config: Path
) -> None:
    """What this host itself drilled is known; and where nothing at all is known, nothing at all is
    no success.
    """
    store.save_report(access, passed_report("d1", backup=NEWEST))
    config.write_text(config.read_text().replace("/repository", "/elsewhere"))
    elsewhere = Access(load(config).cluster("agents"))
    assert NEWEST in str(refused(elsewhere))
    assert pgdrill(config, "backups") == 2
    store.report_file(access, "d1").unlink()
    assert refused(elsewhere).problem.reason == "no-backups"


def test_wal_that_is_gone_is_no_reason_to_be_content(access: Access, tmp_path: Path) -> None:
    for key in access.objects.sizes("wal_005/"):
        access.objects.delete(key)
    assert "wal-missing" in reasons(access)


def test_an_archive_that_ends_before_what_a_drill_replayed_is_named(access: Access) -> None:
    report = passed_report("d1", backup=NEWEST)
    assert report.restored
    report.restored.recovered_timeline, report.restored.reached_lsn = 1, "0/9000028"
    store.save_report(access, report)
    problem = next(
        one for one in look(access, Runner(), now=NOW).refusals if one.reason == "wal-missing"
    )
    assert "0/9000028" in problem.expected
    assert "d1" in problem.expected
    report.restored.reached_lsn = "0/7000028"  # there
    store.save_report(access, report)
    assert "wal-missing" not in reasons(access)


def test_without_its_memory_a_prune_of_others_backups_waits_for_a_person(access: Access) -> None:
    access.reports.delete(*(backup_record.key(name) for name in NAMES[:2]))
    assert reasons(access) == ["first-run"]
    assert reasons(access, allowed=["first-run"]) == []
    ledger.write_ledger(access.reports, ledger.Ledger())
    assert reasons(access) == []


def test_a_dump_that_is_missing_is_named(
    access: Access, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump_id = "20261201T040000Z-abcdef"
    report = DumpReport(
        drill_id="d7", dump_id=dump_id, cluster="agents", started_at=NOW, restore=Stage(status="ok")
    )
    keep.save_report(access, report)
    for place in ("here and there", "here alone"):
        assert pgdrill(config, "dumps") == 2, place
        assert dump_id in capsys.readouterr().err
        assert dump_id in str(refused(access))
        access.dumps.delete(keep.report_key(report))
    ledger.forget(access.reports, [dump_id])
    assert pgdrill(config, "dumps") == 0


class EmptyListing(http.server.BaseHTTPRequestHandler):
    """Answers every listing with 200 and nothing in it, as a proxy or an object gateway gone wrong
    does.
    """

    def do_GET(self) -> None:
        body = (
            b'<?xml version="1.0"?><ListBucketResult><Name>b</Name><KeyCount>0</KeyCount>'
            b"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def empty_store() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), EmptyListing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_store_that_answers_with_an_empty_listing_is_not_believed(
    access: Access, empty_store: str, tmp_path: Path
) -> None:
    where = access.cluster.repository.model_copy(
        update={"url": "s3://b/p", "endpoint_url": empty_store}
    )
    cluster = access.cluster.model_copy(
        update={"repository": where, "reports_url": access.reports.url}
    )
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    empty = Access(cluster, Credentials({}, keys))
    assert empty.repository.backups() == []
    assert NEWEST in str(refused(empty))
    with pytest.raises(CouldNotVerify, match=NEWEST):
        check_backups(empty, empty.repository.backups())


def test_a_forged_sentinel_keeps_its_own_backup_from_counting_and_no_other(access: Access) -> None:
    """And nothing is deleted as long as it is there: what it hides is not known."""
    access.objects.write(
        f"basebackups_005/{SECOND}_backup_stop_sentinel.json",
        json.dumps(SENTINEL | {"LSN": -1}).encode(),
    )
    access.reports.delete(*(backup_record.key(name) for name in NAMES))  # which are none here
    found = look(access, Runner(), now=NOW)
    assert [backup.name for backup in found.inventory.backups] == [FIRST, NEWEST]
    assert [one.name for one in found.inventory.unreadable] == [SECOND]
    assert found.inventory.unseen == ()
    assert all(backup.damage == "" for backup in found.inventory.backups)
    assert SECOND not in found.plan.going("backup")
