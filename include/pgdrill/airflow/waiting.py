"""A lease that another job holds is waited for without a worker: the task gives its slot back and
is started again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRescheduleException

from pgdrill.airflow.exceptions import failure, lines

if TYPE_CHECKING:
    from airflow.sdk import Context


@contextlib.contextmanager
def waiting(context: Context, seconds: float, logger: logging.Logger | Any) -> Iterator[None]:
    """Around a job that begins with taking its lease: wait for so long since the task met another
    job first, then fail.
    """
    from pgdrill.errors import Busy
    from pgdrill.host.waiting import next_look, told

    try:
        yield
    except Busy as busy:
        now = datetime.now(UTC)
        since = context["ti"].get_first_reschedule_date(context) or now
        ends = since + timedelta(seconds=seconds)
        if now >= ends:
            waited = f"It was waited for, {(now - since).total_seconds() / 60:.0f} minutes"
            raise failure(*lines(busy.problem), waited, retryable=False) from None
        logger.warning("%s", told(busy, ends))
        look = min(now + timedelta(seconds=next_look(busy, (now - since).total_seconds())), ends)
        raise AirflowRescheduleException(look) from None  # type: ignore[no-untyped-call]
