"""The library's errors as Airflow's: which exception it is decides whether Airflow tries again.

``AirflowFailException`` ends the task at once; ``AirflowException`` is retried as far as the task's
``retries`` go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from pgdrill.errors import PgdrillError, Problem
from pgdrill.text import one_line


@contextlib.contextmanager
def airflow_errors() -> Iterator[None]:
    """Pass the library's errors on with their own words: they name thing, found, expected, and the
    hint in a line of its own.
    """
    from pgdrill.host.process import Stopped

    try:
        yield
    except PgdrillError as error:
        raise failure(*lines(error.problem), retryable=error.retryable) from None
    except Stopped as error:
        # Marked failed by hand it stays failed; ended because the worker shuts down, another try is
        # wanted.
        raise AirflowException(str(error)) from None


def lines(problem: Problem) -> tuple[str, str]:
    """Return a problem as lines: what is wrong, and the hint."""
    wrong = f"{problem.thing}: found {problem.found}; expected {problem.expected}"
    return wrong, f"Hint: {problem.hint}"


def failure(*words: str, retryable: bool) -> AirflowException:
    """Return the exception to raise; each of the words is a line of its message.

    Whatever somebody else named or said makes no further lines.
    """
    told = "\n".join(map(one_line, words))
    return AirflowException(told) if retryable else AirflowFailException(told)
