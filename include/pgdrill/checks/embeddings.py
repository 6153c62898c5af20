"""Embeddings: were the vectors made by the application's model, from the text beside them?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.checks.canary_sample import Canaries, Source, found_share, off_target
from pgdrill.config import Deviation, Embeddings
from pgdrill.errors import CouldNotVerify
from pgdrill.postgres.relation_names import joined
from pgdrill.reports.deviations import concerns, today
from pgdrill.reports.model import CheckStatus
from pgdrill.vectors.columns import FoundColumn, find_columns, named_columns
from pgdrill.vectors.embedders import Embedder, make_embedder
from pgdrill.vectors.labels import Label, LabelError, label_command, parse_label, read_comments
from pgdrill.vectors.types import ELEMENT

NEWEST_ROWS = 100


@dataclass(frozen=True)
class _Labelled:
    """A vector column with its label, what the application runs, and a connection to look at it."""

    connection: psycopg.Connection
    column: FoundColumn
    label: Label | None
    unreadable: str
    running: str

    @property
    def name(self) -> str:
        return self.column.name

    @property
    def model(self) -> str:
        """The model that embeds queries today; where none is configured, the label's."""
        return self.running.rpartition("@")[0] or (self.label.model if self.label else "")

    def vectors(self) -> int:
        """Return how many rows have a vector."""
        query = sql.SQL("SELECT pg_catalog.count({}) FROM ONLY {}").format(
            sql.Identifier(self.column.column), self.column.relation
        )
        row = self.connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def missing_columns(self) -> list[str]:
        """Return the columns that the label names and the table does not have."""
        if self.label is None:
            return []
        named = (self.label.text_column, self.label.updated_column, self.label.embedded_column)
        rows = self.connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT"
            " attisdropped",
            (self.column.relation.as_string(self.connection),),
        ).fetchall()
        known = {row[0] for row in rows}
        return [name for name in named if name and name not in known]


def _each(context: Context) -> Iterator[_Labelled]:
    for database in context.databases:
        with context.connect(database) as connection:
            connection.execute("SET row_security = off")
            comments = read_comments(connection, named_columns(context.cluster))
            for column in find_columns(connection, database, context.cluster):
                label, unreadable = None, ""
                try:
                    label = parse_label(comments[column.schema, column.table, column.column])
                except LabelError as error:
                    unreadable = str(error)
                yield _Labelled(
                    connection,
                    column,
                    label,
                    unreadable,
                    running_model(context.cluster.embeddings, column),
                )


def _written(context: Context, one: _Labelled) -> str:
    column = one.column
    return f"""`{
        label_command(
            context.cluster.name,
            column.database,
            joined(column.schema, column.table),
            column.column,
            one.running,
        )
    }`"""


def running_model(settings: Embeddings, column: FoundColumn) -> str:
    """Return the ``model@version`` that the application embeds this column's queries with.

    Empty where the configuration does not say.
    """
    names = _names(column)
    return next((settings.models[name] for name in (*names, "*") if name in settings.models), "")


def also_allowed(context: Context, check_: str, column: FoundColumn) -> Deviation | None:
    """Return the deviation that allows vectors of another model, while a column is embedded again.

    Of several it is the one that holds longest; None where there is none.
    """
    known = [
        one
        for one in context.cluster.deviations
        if one.model and one.until >= today() and concerns(one, check_, column.name)
    ]
    return max(known, key=lambda one: one.until, default=None)


def _over(context: Context, check_: str, column: FoundColumn) -> str:
    """Return words to add about a deviation that allowed another model and has ended."""
    ended = [
        one
        for one in context.cluster.deviations
        if one.model and one.until < today() and concerns(one, check_, column.name)
    ]
    return (
        f"; {ended[-1].model} was allowed besides until {ended[-1].until} ({ended[-1].reason}), and"
        " is no longer"
        if ended
        else ""
    )


def _unlike_today(context: Context, one: _Labelled) -> CheckStatus:
    """Return the status for a label that the configuration does not want.

    At an instant of the past it may have been right then. It is a failure only if production has
    the same label today, as a drill to the latest instant would say.
    """
    if not context.not_compared:
        return "fail"
    now = dict(context.habits(one.column)).get("today")
    return "fail" if now and now.label == str(one.label or "") else "warn"


def _names(column: FoundColumn) -> tuple[str, ...]:
    """Return the names that the configuration may use for a column, the longest first."""
    whole = joined(column.schema, column.table, column.column)
    return f"{column.database}.{whole}", whole, column.name


@check(
    "model-label",
    "embeddings",
    passing=(
        "every vector column that holds vectors says in its comment which model and version made"
        " them"
    ),
    hint=(
        "`pgdrill label` writes one on production, as the table's owner; `--sql` prints the"
        " statement for him"
    ),
    example="embeddings.embedding: no label (500 vectors), wanted a label where there are vectors",
)
def model_label(context: Context) -> Iterator[Outcome]:
    """Check that every column that holds vectors has a label.

    Labels travel with the backup. Without one nobody can tell later what the vectors are.
    """
    for one in _each(context):
        if one.unreadable:
            yield Outcome(
                "fail",
                one.name,
                "unreadable label",
                "a label",
                one.unreadable,
                _written(context, one),
            )
        elif one.label is None:
            rows = one.vectors()
            yield Outcome(
                _unlike_today(context, one) if rows else "pass",
                one.name,
                "no label",
                "a label where there are vectors",
                f"{rows} vectors",
                _written(context, one),
            )
        elif missing := one.missing_columns():
            yield Outcome(
                "fail", one.name, f"label names {', '.join(missing)}", "columns of the table"
            )
        else:
            yield Outcome("pass", one.name, str(one.label), "a label")


@check(
    "model-current",
    "embeddings",
    passing=(
        "every vector column was made by the model and version that the running application uses"
        " (embeddings.models)"
    ),
    hint=(
        "stale vectors: embed the column again with the running model; or correct the label or"
        " embeddings.models"
    ),
    example=(
        "embeddings.embedding: hashing-385@1 (500 stale vectors: re-embed), wanted = hashing-384@1"
    ),
)
def model_current(context: Context) -> Iterator[Outcome]:
    """Compare each label with the model that the application runs.

    Vectors of two models share no space: a search across them finds nothing that is meant.
    """
    unseen = set(context.cluster.embeddings.models) - {"*"}
    for one in _each(context):
        unseen.difference_update(_names(one.column))
        if not one.running:
            yield not_asked(one.name, "embeddings.models names no model for it")
            continue
        rows = one.vectors()
        if rows == 0:
            yield Outcome("pass", one.name, "empty", f"= {one.running}")
        elif one.label is None:
            # at an instant of the past it may not have been labelled yet
            required = not context.not_compared
            yield Outcome(
                "skip",
                one.name,
                message="no label to compare with the running model",
                required=required,
            )
        elif str(one.label) == one.running:
            yield Outcome("pass", one.name, str(one.label), f"= {one.running}", f"{rows} vectors")
        elif (known := also_allowed(context, "model-current", one.column)) and str(
            one.label
        ) == known.model:
            yield Outcome(
                "warn",
                one.name,
                str(one.label),
                f"= {one.running}",
                f"{rows} vectors; {_allowed(known)}",
            )
        else:
            yield Outcome(
                _unlike_today(context, one),
                one.name,
                str(one.label),
                f"= {one.running}",
                f"{rows} stale vectors: re-embed{_over(context, 'model-current', one.column)}",
            )
    for name in sorted(unseen):
        yield Outcome(
            context.unlike_today, name, "no such vector column", "configured in embeddings.models"
        )


@check(
    "canary",
    "embeddings",
    passing=(
        "texts of sampled rows, embedded again by the running model, land on the stored vectors"
    ),
    hint=(
        "embed the column again; if all rows are off, the label or embeddings.models names the"
        " wrong model or text column"
    ),
    example=(
        "embeddings.embedding: 0.1 of rows off (50 of 500 re-embedded by hashing-384, first at"
        " (0,3)), wanted within 0.01 of the stored vectors"
    ),
)
def canary(context: Context) -> Iterator[Outcome]:
    """Embed sampled texts again and compare the result with the stored vectors.

    This asks, whatever the label says, whether the vector is what the application would make of the
    text today.
    """
    settings = context.cluster.embeddings
    if not settings.embedder:
        yield not_asked("embedder", "embeddings.embedder names nobody who could embed a text again")
        return
    for one in _each(context):
        if why := _without_text(one):
            yield replace(why, required=not context.not_compared and why.required)
            continue
        if context.not_compared and one.running and str(one.label) != one.running:
            yield not_asked(
                one.name, f"labelled {one.label} at that instant, and {one.running} runs today"
            )
            continue
        assert one.label and one.label.text_column  # noqa: S101 - _without_text has looked
        source = Source(one.connection, one.column, one.label.text_column)
        canaries = source.sample(settings.canary_rows, _key(context, one.column.database))
        share = (
            f"finds damage to {100 * found_share(len(canaries)):.2g} % of the rows with 95 %"
            " certainty"
        )
        yield _embedded_again(
            context, one, canaries, "every row" if canaries.every else share, "canary"
        )


def _without_text(one: _Labelled) -> Outcome | None:
    """Return the outcome for a column whose texts cannot be embedded again; None if they can."""
    if one.label is None:
        if one.vectors() == 0:
            return Outcome("pass", one.name, "empty")
        return Outcome("skip", one.name, message="no label that names the column of the text")
    if one.column.kind not in ELEMENT:
        return not_asked(one.name, f"embedders give dense vectors, not {one.column.kind}")
    if one.label.text_column is None:
        return not_asked(one.name, "its label names no column of the text")
    if one.missing_columns():
        return Outcome("skip", one.name, message="its label names columns that are not there")
    return None


def _key(context: Context, database: str) -> str:
    """Return the key that the sample is drawn by; each drill's baseline has its own."""
    recorded = context.baseline.databases.get(database) if context.baseline else None
    return recorded.horizon.key if recorded else context.cluster.name


def _embedded_again(
    context: Context, one: _Labelled, canaries: Canaries, reach: str, check_: str
) -> Outcome:
    if not len(canaries):
        return Outcome("pass", one.name, "empty", message="no rows with both text and vector")
    tolerance = context.cluster.embeddings.tolerance
    known = also_allowed(context, check_, one.column)
    try:
        embedder = _embedder(context)
        with context.runner.ending(embedder.close):
            made = embedder.embed(one.model, canaries.texts)
            off = off_target(canaries.vectors, made, tolerance)
            others = canaries.some(off) if off and known else None
            still_off = (
                off_target(others.vectors, embedder.embed(_model(known), others.texts), tolerance)
                if others
                else []
            )
    except CouldNotVerify as error:
        return Outcome("skip", one.name, message=str(error))
    limit = f"within {tolerance:g} of the stored vectors"
    if not off:
        return Outcome("pass", one.name, len(canaries), limit, f"rows re-embedded: {reach}")
    if others and known and not still_off:
        return Outcome(
            "warn",
            one.name,
            f"{len(off)} of {len(canaries)} rows are of {known.model}",
            limit,
            f"{_allowed(known)}; {reach}",
        )
    off = [off[number] for number in still_off] if others else off
    stored, given = _dimensions(canaries, off), made.shape[1]
    sizes = f"; {stored} dimensions stored, {given} given" if stored != given else ""
    models = f"{one.model}{f' and by {_model(known)}' if known else ''}"
    return Outcome(
        "fail",
        one.name,
        f"{len(off) / len(canaries):.4g} of rows off",
        limit,
        f"{len(off)} of {len(canaries)} re-embedded by {models}, first at"
        f" {canaries.places[off[0]]}{sizes}{_over(context, check_, one.column)}",
    )


def _model(known: Deviation | None) -> str:
    return known.model.rpartition("@")[0] if known else ""


def _allowed(known: Deviation) -> str:
    return f"{known.model} is allowed besides until {known.until}: {known.reason}"


def _embedder(context: Context) -> Embedder:
    """Return the configured embedder, the same one for all checks of a drill.

    Loading a model takes longer than asking it.
    """

    cache, closing = context.cache, context.closing
    if cache.embedder is None:
        made = make_embedder(context.cluster.embeddings)
        assert made is not None  # noqa: S101 - asked only where one is configured
        closing.callback(setattr, cache, "embedder", None)
        cache.embedder = closing.enter_context(contextlib.closing(made))
    return cache.embedder


def _dimensions(canaries: Canaries, off: Sequence[int]) -> int:
    return len(canaries.vectors[off[0]])


@check(
    "stale-text",
    "embeddings",
    passing="no text is newer than its vector, where the label names the columns that tell",
    hint=(
        "embed the named rows again; look at what embeds changed texts: its queue, its trigger, its"
        " errors"
    ),
    example=(
        "embeddings.embedding: 2 (of 500, first at (24,3)), wanted 0 texts newer than their vector"
    ),
)
def stale_text(context: Context) -> Iterator[Outcome]:
    """Look for texts that are newer than their vectors.

    Two times are compared where the label names both columns. Elsewhere the texts changed last are
    embedded again.
    """
    settings = context.cluster.embeddings
    for one in _each(context):
        label = one.label
        if label is None or label.updated_column is None:
            yield not_asked(one.name, "no label that says when the text was changed")
        elif one.missing_columns():
            yield Outcome("skip", one.name, message="its label names columns that are not there")
        elif label.embedded_column:
            yield _by_times(one, label.updated_column, label.embedded_column)
        elif label.text_column and settings.embedder and one.column.kind in ELEMENT:
            source = Source(one.connection, one.column, label.text_column)
            newest = source.newest(min(settings.canary_rows, NEWEST_ROWS), label.updated_column)
            yield _embedded_again(context, one, newest, "those changed last", "stale-text")
        else:
            yield not_asked(
                one.name, "its label names no embedded_column, and nobody can embed its texts again"
            )


def _by_times(one: _Labelled, updated_column: str, embedded_column: str) -> Outcome:
    row = one.connection.execute(
        sql.SQL(
            "SELECT count(*), (min(ctid) FILTER (WHERE stale))::text, count(*) FILTER (WHERE stale)"
            " FROM (SELECT ctid, coalesce({updated} > {embedded}, {embedded} IS NULL) AS stale FROM"
            " ONLY {table} WHERE {cell} IS NOT NULL) s"
        ).format(
            updated=sql.Identifier(updated_column),
            embedded=sql.Identifier(embedded_column),
            table=one.column.relation,
            cell=sql.Identifier(one.column.column),
        )
    ).fetchone()
    rows, first, stale = row or (0, "", 0)
    if stale:
        return Outcome(
            "fail",
            one.name,
            stale,
            "0 texts newer than their vector",
            f"of {rows}, first at {first}",
        )
    return Outcome("pass", one.name, rows, "0 texts newer than their vector", "vectors")
