"""The restored instant: WAL itself says whether it is the one that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pgdrill.checks.base import Context, Outcome, check, not_asked


@check(
    "instant",
    "recovery",
    passing=(
        "the last transaction that was replayed ended by the target's instant, and the next one in"
        " the archive after it"
    ),
    hint=(
        "replay stopped at another instant than asked: compare recovery_target_time in the drill's"
        " postgresql.conf with the report's target; look for a clock that was set back on"
        " production"
    ),
    example="next in the archive: 2026-11-20T10:59:58Z, wanted > 2026-11-20T11:00:00Z",
)
def instant(context: Context) -> Iterator[Outcome]:
    """Compare the last replayed transaction and the next archived one with the target.

    Only targets that are an instant are compared. The archive is read anew, and the restored
    server's own word has to agree with it.
    """
    report = context.report
    target = report.target if report else None
    if report is None or target is None or target.instant is None or report.restored is None:
        yield not_asked("target", "the target is no instant: target-reached compares its LSN")
        return
    at, proof = target.instant, report.instant
    strict = target.kind == "before"
    replayed = report.restored.last_transaction_time
    if proof is None or proof.next_at is None:
        yield Outcome(
            "fail",
            "next in the archive",
            "no transaction",
            f"{'>=' if strict else '>'} {shown(at)}",
            "nothing in the archive made replay stop there",
        )
    else:
        late = proof.next_at >= at if strict else proof.next_at > at
        yield Outcome(
            "pass" if late else "fail",
            "next in the archive",
            shown(proof.next_at),
            f"{'>=' if strict else '>'} {shown(at)}",
        )
    last = proof.last_at if proof else None
    if last is None and replayed is None:
        yield Outcome(
            "pass",
            "last replayed",
            "none",
            f"{'<' if strict else '<='} {shown(at)}",
            "no transaction ended between the base backup and the instant",
        )
        return
    newest = max(it for it in (last, replayed) if it)
    early = newest < at if strict else newest <= at
    yield Outcome(
        "pass" if early else "fail",
        "last replayed",
        shown(newest),
        f"{'<' if strict else '<='} {shown(at)}",
    )
    if last and replayed and last != replayed:
        yield Outcome(
            "fail",
            "last replayed",
            shown(replayed),
            f"= {shown(last)}",
            "the archive's last before the stop",
        )


def shown(at: datetime) -> str:
    """Return a time as text to the microsecond, as PostgreSQL has it."""
    return at.isoformat().replace("+00:00", "Z")
