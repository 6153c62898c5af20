"""The asking of many questions at once, in threads.

None of them is waited for longer than it was told to.
"""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import psycopg

from pgdrill.errors import PgdrillError

logger = logging.getLogger(__name__)


class Question(Protocol):
    """A question with a name.

    ``needs`` are others whose answers have to stand before this one can be asked; ``after`` are
    those that it waits for and makes do without.
    """

    @property
    def name(self) -> str:
        """The name, by which others need it."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The questions whose answers have to stand."""

    @property
    def after(self) -> tuple[str, ...]:
        """The questions it waits for."""


OneQuestion = TypeVar("OneQuestion", bound=Question)
Answer = TypeVar("Answer")


@dataclass
class Asked(Generic[OneQuestion, Answer]):
    """A question while it is asked, and after.

    ``answers`` and ``seconds`` count once ``answered`` is set; without it the question is late.
    """

    question: OneQuestion
    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0
    stands: bool = False  # what needs it can go on
    answered: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """True if its thread is still at work."""
        return self.thread is not None and self.thread.is_alive()


def ask_all(
    questions: Sequence[OneQuestion],
    answers: Callable[[OneQuestion, str], Iterable[Answer]],
    *,
    stands: Callable[[Answer], bool],
    seconds: float,
    together: Callable[[OneQuestion], str] = lambda question: question.name,
) -> list[Asked[OneQuestion, Answer]]:
    """Ask all questions, and wait for ``seconds`` at most.

    ``answers`` gets the question, and the first of its needs that does not stand, or an empty
    string. Questions that are ``together`` are asked in one thread, one after another: a question
    comes after those of its thread that it needs.
    """
    deadline = time.monotonic() + seconds
    asked = [Asked[OneQuestion, Answer](question) for question in questions]
    known = {one.question.name: one for one in asked}
    groups: dict[str, list[Asked[OneQuestion, Answer]]] = {}
    for one in asked:
        groups.setdefault(together(one.question), []).append(one)

    def work(group: list[Asked[OneQuestion, Answer]]) -> None:
        for one in group:
            _ask(one, known, answers, stands, deadline)

    threads = {
        name: threading.Thread(target=work, args=(group,), name=f"ask-{name}", daemon=True)
        for name, group in groups.items()
    }
    for one in asked:
        one.thread = threads[together(one.question)]
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    return asked


def _ask(
    one: Asked[OneQuestion, Answer],
    known: dict[str, Asked[OneQuestion, Answer]],
    answers: Callable[[OneQuestion, str], Iterable[Answer]],
    stands: Callable[[Answer], bool],
    deadline: float,
) -> None:
    question = one.question
    before = [known[name] for name in (*question.needs, *question.after) if name in known]
    for other in before:
        other.answered.wait(max(0.0, deadline - time.monotonic()))
    fallen = (
        name
        for name in question.needs
        if name in known and not (known[name].answered.is_set() and known[name].stands)
    )
    began = time.monotonic()
    one.answers = list(answers(question, next(fallen, "")))
    one.seconds = round(time.monotonic() - began, 3)
    one.stands = all(map(stands, one.answers))
    one.answered.set()


def with_needs(
    questions: Iterable[OneQuestion], wanted: Callable[[OneQuestion], bool]
) -> list[OneQuestion]:
    """Return the wanted questions and what they need or wait for, in the order of all."""
    every = {one.name: one for one in questions}
    names = {name for name, one in every.items() if wanted(one)}
    while (
        more := {need for name in names for need in (*every[name].needs, *every[name].after)}
        - names
    ):
        names |= more
    return [one for name, one in every.items() if name in names]


def guarded(
    name: str,
    ask: Callable[[], Iterable[Answer]],
    *,
    problem: Callable[[PgdrillError], Answer],
    unknown: Callable[[str], Answer],
) -> Iterator[Answer]:
    """Yield a question's answers; what breaks while it is asked becomes one, too.

    ``problem`` makes it of an error of pgdrill's, ``unknown`` of words about any other.
    """
    try:
        yield from ask()
    except PgdrillError as error:
        yield problem(error)
    except (psycopg.Error, OSError, subprocess.SubprocessError) as error:
        yield unknown(f"could not be asked: {type(error).__name__}: {str(error).strip()}")
    except Exception as error:
        logger.exception("question %s broke", name)
        yield unknown(f"could not be asked: unforeseen {type(error).__name__}")
