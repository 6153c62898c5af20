"""What was not proved is promised in no report: how fresh the archive is says nothing where no
backup comes back.
"""

from __future__ import annotations

import io

from rich.console import Console

from pgdrill.drill import drill
from pgdrill.reports.model import Report
from pgdrill.reports.terminal import report_table
from pgdrill_demo.stack import preferred_tool
from tests.conftest import need
from tests.integration.worlds import production


def told(report: Report) -> str:
    """The report as people read it."""
    stream = io.StringIO()
    report_table(report, Console(file=stream, width=200, highlight=False))
    return stream.getvalue()


def test_without_a_backup_all_would_be_lost_however_fresh_the_archive_is() -> None:
    with production(need(preferred_tool())) as stack:
        report = drill(stack.access)
        assert report.restore.trouble, report.reason
        assert report.restore.trouble.reason == "no-backups"
        assert report.measured_rpo_seconds is None
        text = told(report)
        assert "RPO 60 s: NOT PROVED, nothing was restored" in text
        assert ": kept" not in text
