"""Vectors: are they whole and production's, and does the index find what an exact search finds?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pgdrill.baseline import Changes
from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.checks.columns import Look, altered, looks, no_vectors, not_seen, seen
from pgdrill.checks.vacuumed import searched_when_vacuumed, was_tidied
from pgdrill.checks.values import odd_values
from pgdrill.reports.model import NO_VECTORS, CheckStatus
from pgdrill.vectors.chance import at_least, share_of
from pgdrill.vectors.columns import SearchIndex
from pgdrill.vectors.index_search import K, tolerance
from pgdrill.vectors.model import Answers, Contents, SearchState
from pgdrill.vectors.neighbour_comparison import Comparison
from pgdrill.vectors.observation import Asked, Observed, Searched, placed, places_of, writers
from pgdrill.vectors.recall import Loss, paired_loss, unpaired_loss
from pgdrill.vectors.snapshot import contents_of

MOVED = "production rewrote the table meanwhile, and its rows have other places"


@check(
    "vector-values",
    "vectors",
    passing=(
        "every vector column can be read, and its vectors have the column's dimensions and no NaN;"
        " no row is without a vector, or has one of zeros, that had another on production"
    ),
    hint="embed the named rows again; where rows without a vector are meant, allow_null says so",
    example="items.embedding: 3 vectors with NaN or infinity, wanted 0, first at (12,4)",
)
def vector_values(context: Context) -> Iterator[Outcome]:
    """Count the values of each column that are no whole vectors.

    They are counted while the exact neighbours are searched: one reading of each column serves all
    questions.
    """
    for look in looks(context):
        if look.seen is None or look.seen.reading is None:
            yield Outcome(
                "fail" if look.damaged else "skip",
                look.name,
                "unreadable",
                "readable to the end",
                look.trouble,
            )
            continue
        found = list(
            odd_values(look, look.seen.reading, look.state.contents if look.state else None)
        )
        yield from found
        if not any(outcome.status == "fail" for outcome in found):
            vectors = look.seen.reading.sizes
            sizes = ", ".join(map(str, sorted(vectors))) or look.column.dimensions or "any"
            yield Outcome(
                "pass", look.name, sum(vectors.values()), f"{sizes} dimensions", "vectors"
            )
    lost = list(_lost_columns(context))
    yield from lost
    if not lost and no_vectors(context):
        yield Outcome("pass", "cluster", NO_VECTORS, "as on production")


def _lost_columns(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each column that the restored cluster lacks.

    The configuration or the baseline names it.
    """
    found = {(look.column.wanted.table, look.column.wanted.column) for look in looks(context)}
    for wanted in context.cluster.vectors:
        if (wanted.table, wanted.column) not in found:
            yield Outcome(
                context.unlike_today,
                f"{wanted.table}.{wanted.column}",
                "no such vector column",
                "configured in dr.toml",
            )
    present = {(look.column.database, look.key) for look in looks(context)}
    for name, database in context.baseline.databases.items() if context.baseline else ():
        for key, state in database.vectors.items():
            if name in context.databases and (name, key) not in present:
                # the table may have been dropped, or made unlogged, just then
                changed = altered(context, name, state.oid)
                yield context.allowing_for_changes(
                    Outcome(
                        "warn" if changed else "fail",
                        key.removeprefix("public."),
                        "no such vector column",
                        f"of type {state.kind}, as on production",
                        "the table was changed on production since the baseline" if changed else "",
                    )
                )


@check(
    "vector-content",
    "vectors",
    compares=True,
    passing=(
        "every vector that production's snapshot held came back to the bit, except those that its"
        " counters say were updated or deleted before the restore point; their lengths and copies"
        " are what they were"
    ),
    hint=(
        "compare the column with production by key; the backup or its WAL is damaged or incomplete"
    ),
    example="items.embedding: 2 older vectors gone, wanted 0: more than were updated or deleted",
)
def vector_content(context: Context) -> Iterator[Outcome]:
    """Compare a digest of the rows that are older than the baseline's snapshot.

    It is over the place, writer and vector of every such row.
    """
    yield from not_seen(context)
    for look, column in seen(context):
        before = look.state.contents if look.state else None
        if look.state is None or look.state.code:
            yield not_known(look)
        elif before is None:
            yield Outcome(
                "pass",
                look.name,
                column.reading.rows if column.reading else 0,
                message="too large to be read on production: compared by its probes alone",
            )
        elif column.reading:
            yield _same_content(look, contents_of(column.reading), before)


def not_known(look: Look) -> Outcome:
    """Return the outcome for a column that there is nothing to compare with.

    Without a baseline the question is unanswered. A column that the baseline lacks is new or could
    not be read.
    """
    recorded = look.database.vectors.get(look.key) if look.database else None
    if look.database is None:
        return Outcome("skip", look.name, message="no baseline to compare with")
    if recorded and recorded.code:
        return not_asked(look.name, f"not searched on production, where {recorded.code}")
    return Outcome(
        "warn",
        look.name,
        message=recorded.trouble if recorded else "not there when the baseline was taken",
    )


def _same_content(look: Look, found: Contents, before: Contents) -> Outcome:
    if (found.stable, found.digest) == (before.stable, before.digest):
        return Outcome("pass", look.name, found.stable, "as recorded", "vectors, to the bit")
    changes = look.changes()
    if changes is None:
        return Outcome(
            "warn",
            look.name,
            found.stable,
            "",
            f"what was written since the baseline is not known: {look.rows_compared}",
        )
    gone, most = before.stable - found.stable, changes.rewritten_rows
    if not most and not gone:
        return Outcome(
            "fail",
            look.name,
            "other vectors",
            "the recorded digest",
            "nobody updated or deleted a row of the table",
        )
    if not 0 <= gone <= most:
        return Outcome(
            "fail",
            look.name,
            gone,
            f"0 to {most} older vectors gone",
            "more than were updated or deleted",
        )
    return _by_figures(look, found, before, changes)


def _by_figures(look: Look, found: Contents, before: Contents, changes: Changes) -> Outcome:
    """Judge a column whose table was written to by what can be said of all its vectors at once."""
    if why := _strange_norms(found, before, changes.rewritten_rows):
        return Outcome(
            "fail",
            look.name,
            why,
            "lengths as recorded",
            f"{changes.rewritten_rows} rows were updated or deleted since",
        )
    if found.copies > before.copies + changes.inserted + changes.updated:
        return Outcome(
            "fail",
            look.name,
            found.copies,
            f"{before.copies} copies of other vectors",
            "more than were written since",
        )
    return Outcome(
        "pass",
        look.name,
        found.stable,
        f"{before.stable} less up to {changes.rewritten_rows}",
        "older vectors; the table was written to",
    )


def _strange_norms(found: Contents, before: Contents, gone: int) -> str:
    """Return in words how the vectors' lengths differ from the recorded ones; empty if well.

    Rows that are left cannot be longer or shorter than all of them were, nor can a few gone move
    the mean far.
    """
    now, then = found.norms, before.norms
    if now is None or then is None:
        return ""
    slack = 1e-6 * then.highest
    if now.lowest < then.lowest - slack or now.highest > then.highest + slack:
        return (
            f"lengths {now.lowest:.6g} to {now.highest:.6g}, were {then.lowest:.6g} to"
            f" {then.highest:.6g}"
        )
    reach = (then.highest - then.lowest) * gone / max(found.stable, 1) + slack
    return (
        f"mean length {now.mean:.6g}, was {then.mean:.6g}"
        if abs(now.mean - then.mean) > reach
        else ""
    )


@check(
    "exact-neighbours",
    "vectors",
    compares=True,
    passing=(
        "stored vectors that are as they were have the exact nearest neighbours that they had on"
        " production, at the same distances; only rows updated or deleted since are missing among"
        " them"
    ),
    hint=(
        "compare the named rows with production; if they differ there too, a write went past the"
        " server's counters"
    ),
    example=(
        "items.embedding (items_hnsw): 3 wrong neighbours (first (7,2)/812: nearer than it was),"
        " wanted 0"
    ),
)
def exact_neighbours(context: Context) -> Iterator[Outcome]:
    """Compare the exact neighbours of stored vectors with those that production recorded.

    Whatever the index says, this is what a search ought to find.
    """
    yield from not_seen(context)
    for look, column in seen(context):
        if look.state is None or look.state.code:
            yield not_known(look)
            continue
        known = {one.index: one for one in look.state.searches}
        for one in column.searches:
            if one.search.name not in known:
                yield Outcome(
                    "warn",
                    thing_of(look, one),
                    message="not searched so when the baseline was taken",
                )
            elif one.probes:
                answer = _neighbours(look, column, one, known[one.search.name])
                moved = answer.status == "fail" and look.rewritten()
                yield (
                    replace(answer, status="warn", message=f"{MOVED}: {look.rows_compared}")
                    if moved
                    else answer
                )
            else:
                yield Outcome(
                    "pass", thing_of(look, one), "empty", message="no vectors to search for"
                )
        if not column.searches:
            yield Outcome("pass", look.name, "empty", message="no vectors to search for")


def thing_of(look: Look, one: Searched) -> str:
    """Return the name that an answer about a search gives its thing."""
    return f"{look.name} ({one.search.name})" if one.search.name else look.name


def _neighbours(look: Look, column: Observed, one: Searched, before: SearchState) -> Outcome:
    digests = dict(before.probes)
    key = look.database.horizon.key if look.database else ""
    changed = [
        probe.place
        for probe in one.probes
        if digests.get(probe.place, probe.digest(key)) != probe.digest(key)
    ]
    if changed:
        return Outcome(
            "fail",
            thing_of(look, one),
            f"{len(changed)} changed probes",
            "0 changed probes",
            f"first at {changed[0]}",
            proved=True,
        )
    same = [number for number, probe in enumerate(one.probes) if probe.place in digests]
    if not same:
        return _gone(look, one, len(before.probes), 0)
    if not before.whole.neighbours:
        return Outcome(
            "pass",
            thing_of(look, one),
            len(same),
            "unchanged probes",
            "too large to be searched exactly on production",
        )
    compared = _compared(look, column, one, before, same)
    if compared.wrong:
        return Outcome(
            "fail",
            thing_of(look, one),
            f"{len(compared.wrong)} wrong neighbours",
            "0 wrong neighbours",
            f"of {compared.probes} probes; first {compared.wrong[0]}",
            proved=True,
        )
    lost = len(before.probes) - len(same)
    if compared.gone or lost:
        return _gone(
            look,
            one,
            len(compared.gone | (set(digests) - {probe.place for probe in one.probes})),
            len(same),
        )
    return Outcome("pass", thing_of(look, one), len(same), "neighbours as recorded", "probes")


def _gone(look: Look, one: Searched, gone: int, probes: int) -> Outcome:
    changes = look.changes()
    if changes is None:
        return Outcome(
            "warn",
            thing_of(look, one),
            gone,
            "",
            "rows gone; what was written since the baseline is not known",
        )
    status: CheckStatus = "fail" if gone > changes.rewritten_rows else "pass" if probes else "warn"
    return Outcome(
        status,
        thing_of(look, one),
        gone,
        f"<= {changes.rewritten_rows} neighbours and probes gone",
        f"{probes} probes compared",
    )


def _compared(
    look: Look, column: Observed, one: Searched, before: SearchState, same: list[int]
) -> Comparison:
    numbers = {place: number for number, (place, _) in enumerate(before.probes)}
    former = {
        place
        for answers in (before.whole, before.filtered)
        if answers
        for places in answers.neighbours
        for place in places
    }
    with look.context.connect(column.column.database) as connection:
        known = writers(
            connection,
            column.column,
            [*places_of(one), *(place.partition("/")[0] for place in former)],
        )
    result = Comparison()
    for asked, answers in ((one.whole, before.whole), (one.filtered, before.filtered)):
        for number in same:
            then = numbers[one.probes[number].place]
            if (
                asked
                and asked.exact
                and answers
                and then < len(answers.neighbours)
                and number < len(asked.exact.probes)
            ):
                _add(result, asked, number, answers, then, known)
    return result


def _add(
    result: Comparison,
    asked: Asked,
    number: int,
    answers: Answers,
    then: int,
    known: dict[str, str],
) -> None:
    assert asked.exact is not None  # noqa: S101 - the caller has looked
    before = dict(zip(answers.neighbours[then], answers.distances[then], strict=True))
    now = placed(asked.exact.stable, number, known)
    farthest = max([*before.values(), *now.values()], default=0.0, key=abs)
    squared = float(asked.exact.probes.dense.squares[number])
    slack = tolerance(
        asked.exact.probes.operator, farthest, squared, asked.exact.searched.dimensions
    ) + 1e-8 * abs(farthest)
    result.add(before, now, set(known.values()), K, slack)


@check(
    "index-recall",
    "vectors",
    passing=(
        "searching through the index finds at least the configured share of the exact ten nearest"
        " neighbours, and not less than on production by more than max_recall_loss, with 95 %"
        " certainty"
    ),
    hint=(
        "REINDEX the named index on production and look for pgvector releases that mend index"
        " damage; then drill again"
    ),
    example=(
        "items.embedding (items_hnsw): 0.41, wanted >= 0.9, loss <= 0.02: recall@10; loss 0.55 (95"
        " %: 0.48 to 0.62)"
    ),
)
def index_recall(context: Context) -> Iterator[Outcome]:
    """Measure recall@10 of each index against exact neighbours of stored vectors.

    Neighbours at equal distance count as found.
    """
    yield from not_seen(context)
    for look, column in seen(context):
        states = {one.index: one for one in look.state.searches} if look.state else {}
        for index in column.column.indexes:
            thing = f"{look.name} ({index.name})"
            one = next((one for one in column.searches if one.search.index == index), None)
            if not index.valid:
                why = _why_invalid(look, index)
                yield Outcome("warn" if why else "fail", thing, "invalid index", "valid", why)
            elif one is None:
                empty = not column.cell.dimensions
                yield (
                    Outcome("pass", thing, "empty")
                    if empty
                    else Outcome("skip", thing, message="no known number of dimensions")
                )
            elif one.recall is None:
                yield Outcome("pass", thing, "empty", message="no vectors to search")
            else:
                yield _at_best(look, one, states.get(index.name))


def _why_invalid(look: Look, index: SearchIndex) -> str:
    """Return what explains an invalid index; empty if nothing does."""
    if look.state is None:
        return (
            "not compared: a concurrent build may have been under way, or may have failed on"
            " production"
        )
    if any(one.name == index.name and not one.valid for one in look.state.indexes):
        return "as on production, where a concurrent build failed: drop it"
    return "being built or dropped on production at that moment" if look.altered(index.oid) else ""


def _at_best(look: Look, one: Searched, before: SearchState | None) -> Outcome:
    """Judge the recall of an index; once more when it is vacuumed, where production's was."""
    first = _recall(look, one, before)
    if first.status != "fail" or before is None or not was_tidied(look, before):
        return first
    again = searched_when_vacuumed(look, one)
    if again is None:
        return first
    outcome = _recall(look, again, before)
    if outcome.status == "fail" and before.made_anew:
        outcome = replace(outcome, status="warn")
    return replace(
        outcome,
        message=f"{outcome.message}; {first.value} before a VACUUM such as production's index had"
        " right after the restore point",
    )


def _recall(look: Look, one: Searched, before: SearchState | None) -> Outcome:
    """Judge the recall of an index.

    What production finds decides. The configured share is only warned of where production finds no
    more.
    """
    wanted, found = look.column.wanted, one.recall or 0.0
    threshold = f">= {wanted.min_recall_at_10:g}"
    message = "recall@10"
    poor = found < wanted.min_recall_at_10
    loss = recall_loss(one, one.whole, before, before.whole) if before else None
    status: CheckStatus = "fail" if poor else "pass"
    if loss:
        threshold += f", loss <= {wanted.max_recall_loss:g}"
        message += f"; {loss}"
        status = judged(look, loss, wanted.max_recall_loss)
        if poor and status != "fail":  # no fault of the backup
            status = "warn"
            message += (
                "; production's own is too low"
                if found + loss.mean < wanted.min_recall_at_10
                else "; hardly less than production's own"
            )
    elif poor and (why := _explained(look, one, found)):
        status, message = "warn", f"{message}; {why}"
    if status == "fail" and (before or (look.state and look.state.code)):
        share = _written_share(look)
        if (loss.lowest if loss else wanted.min_recall_at_10 - found) <= share:
            status = "warn"
            message = (
                f"{message}; production wrote {share:.0%} of the rows meanwhile, and may search"
                " no better"
            )
        elif share:
            message += (
                f"; production wrote {share:.1%} of the rows meanwhile, which explains no more than"
                " that"
            )
    return Outcome(status, thing_of(look, one), round(found, 4), threshold, message)


def _explained(look: Look, one: Searched, found: float) -> str:
    """Return why an index that finds little need not be damaged; empty if nothing says so.

    It is asked where production's own recall of that instant is not known.
    """
    wanted = look.column.wanted
    probes = sum(bool(one.whole.wanted(number)) for number in range(len(one.probes)))
    missed = round(probes * (1 - found))
    if at_least(missed, probes, 1 - wanted.min_recall_at_10) > share_of(searches(look.context)):
        return f"{probes} probes may show so little by chance"
    for when, state in look.habits():
        then = next(
            (search.whole for search in state.searches if search.index == one.search.name), None
        )
        if then is None or not sum(then.wanted):
            continue
        hits, every = sum(then.hits), sum(then.wanted)
        loss = unpaired_loss(hits, every, round(found * probes * K), probes * K)
        if hits / every < wanted.min_recall_at_10 and loss.lowest <= wanted.max_recall_loss:
            return f"production's own is too low: {hits / every:.4g} {when}"
    return ""


def _written_share(look: Look) -> float:
    """Return the share of the table's rows that was written since the baseline.

    In an HNSW graph that share of the rows may have been replaced, and searches find as much less
    until it is vacuumed.
    """
    changes, table = look.changes(), look.table
    contents = look.state.contents if look.state else None
    rows = (
        sum(contents.sizes.values()) if contents else max(table.estimated_rows, 0) if table else 0
    )
    # altered since: the rows that both snapshots saw were not written
    if changes is None and table and table.content and table.bracketed:
        written = table.content.rows - (table.later or table.content).stable_rows
        rows = table.content.rows
    elif changes is None:
        return 1.0
    else:
        written = changes.inserted + changes.rewritten_rows
    return min(1.0, written / max(rows, 1))


def judged(look: Look, loss: Loss, allowed: float) -> CheckStatus:
    """Return the status for a loss of recall: surely worse than allowed, possibly, or surely not.

    In a table that nobody wrote to, the same search of the same index gives the same answer: there
    chance has no part.
    """
    if loss.lowest > allowed and (
        loss.luck <= share_of(searches(look.context)) or look.unwritten()
    ):
        return "fail"
    return "warn" if loss.highest > allowed else "pass"


def searches(context: Context) -> int:
    """Return in how many ways the columns are searched: each is asked some questions by probes."""
    return sum(len(column.searches) for _, column in seen(context))


def recall_loss(one: Searched, asked: Asked, before: SearchState, answers: Answers) -> Loss | None:
    """Return what the index finds less than production's did; None where it cannot be told.

    It is measured on the same probes where they are left.
    """
    if not asked.found or not (answers.hits or answers.found):
        return None
    numbers = {place: number for number, (place, _) in enumerate(before.probes)}
    then, now = [], []
    for number in range(len(asked.found)):
        former, wanted = numbers.get(one.probes[number].place), len(asked.wanted(number))
        if former is None or not wanted:
            continue
        if answers.found:
            then.append(asked.hits_of(number, answers.found[former]) / wanted)
        elif former < len(answers.hits) and answers.wanted[former]:
            then.append(answers.hits[former] / answers.wanted[former])
        else:
            continue
        now.append(asked.hits(number) / wanted)
    if (paired := paired_loss(then, now)) or not answers.hits:
        return paired
    total = sum(len(asked.wanted(number)) for number in range(len(asked.found)))
    return unpaired_loss(
        sum(answers.hits), sum(answers.wanted), sum(map(asked.hits, range(len(asked.found)))), total
    )
