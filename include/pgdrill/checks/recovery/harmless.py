"""Harmlessness: did the restored server do nothing but answer?

It has no process, socket, open file or background worker that is not its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.checks.base import Context, Outcome, check, not_asked

SHOWN = 20
# PostgreSQL's own backends, of every version. Any other that appears is a library's.
OWN_BACKENDS = (
    "client backend",
    "checkpointer",
    "background writer",
    "walwriter",
    "startup",
    "archiver",
    "logger",
    "parallel worker",
    "io worker",
    "autovacuum launcher",
    "autovacuum worker",
    "logical replication launcher",
    "slotsync worker",
    "walsummarizer",
)
BACKENDS = (
    "SELECT DISTINCT backend_type FROM pg_catalog.pg_stat_activity WHERE backend_type <> ALL (%s)"
    " ORDER BY 1"
)


@check(
    "harmless",
    "recovery",
    last=True,
    passing=(
        "all the while the restored server had no process but PostgreSQL's, no socket but its"
        " private one, no file open for writing outside its folder, and no background worker of a"
        " library"
    ),
    hint=(
        "code in the restored data, or a library that it loads, acted by itself: see who owns it on"
        " production before it is restored anywhere without a fence"
    ),
    example="socket (tcp), wanted none",
)
def harmless(context: Context) -> Iterator[Outcome]:
    """Look at what the restored server's processes did.

    They are seen from outside every two seconds, and by the server's own list of what runs.
    """
    if context.watch is None or context.prepare is None:
        yield not_asked(
            "server", "not restored by pgdrill: what runs there is its owner's business"
        )
        return
    context.watch.look()
    found = list(context.watch.found)
    with context.prepare(context.home) as connection:
        workers = [
            name for (name,) in connection.execute(BACKENDS, (list(OWN_BACKENDS),)).fetchall()
        ]
    for thing in found[:SHOWN]:
        yield Outcome("fail", thing, "seen", "none")
    for worker in workers:
        allowed = bool(context.cluster.drill.allowed_libraries)
        yield Outcome(
            "warn" if allowed else "fail",
            f"background worker {worker}",
            "runs",
            "none",
            "drill.allowed_libraries lets libraries act" if allowed else "",
        )
    if not found and not workers:
        yield Outcome("pass", "server", context.watch.looks, "nothing strange", "looks")
