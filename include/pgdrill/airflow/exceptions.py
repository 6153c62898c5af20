"""The library's errors as Airflow's: which exception it is decides whether Airflow tries again.

``AirflowFailException`` ends the task at once; ``AirflowException`` is retried as far as the task's
``retries`` go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from pgdrill.errors import PgdrillError
from pgdrill.text import one_line


@contextlib.contextmanager
def airflow_errors() -> Iterator[None]:
    """Pass the library's errors on with their own words: they name thing, found, expected and the
    hint.
    """
    from pgdrill.host.process import Stopped

    try:
        yield
    except PgdrillError as error:
        raise failure(str(error), retryable=error.retryable) from None
    except Stopped as error:
        # Marked failed by hand it stays failed; ended because the worker shuts down, another try is
        # wanted.
        raise AirflowException(str(error)) from None


def failure(text: str, *, retryable: bool) -> AirflowException:
    """The exception to raise."""
    words = one_line(text)
    return AirflowException(words) if retryable else AirflowFailException(words)
