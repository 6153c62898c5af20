"""The changes an application makes to the sample, each a few statements of one transaction.

Each returns the rows it inserted, updated and deleted. The tenant is set before; rows are picked
from a number drawn, or oldest first, which is cheap where ORDER BY random() is not.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from pgdrill_demo.texts import below, passage

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    import psycopg

    from pgdrill_demo.embedder import Embedder
    from pgdrill_demo.fill import Tenant

    _Counts = tuple[int, int, int]
    _Change = Callable[[psycopg.Connection[Any], Tenant, random.Random, Embedder], _Counts]


def _say(
    connection: psycopg.Connection[Any], tenant: Tenant, rng: random.Random, _: Embedder
) -> _Counts:
    cursor = connection.execute(
        "INSERT INTO messages (tenant_id, conversation_id, role, body) SELECT tenant_id, id,"
        " 'user', %s FROM conversations WHERE tenant_id = %s ORDER BY id LIMIT 1 OFFSET %s",
        (passage(tenant.vertical, rng), tenant.id, below(rng, 8)),
    )
    return cursor.rowcount, 0, 0


def _call(
    connection: psycopg.Connection[Any], tenant: Tenant, rng: random.Random, _: Embedder
) -> _Counts:
    inserted = connection.execute(
        "INSERT INTO calls (tenant_id, agent_id, tool_id, status, arguments, tokens_in, tokens_out)"
        " SELECT a.tenant_id, a.id, t.id, 'running', %s, %s, 0 FROM agents a, tools t WHERE"
        " a.tenant_id = %s ORDER BY a.id, t.id LIMIT 1 OFFSET %s",
        (Jsonb({"n": below(rng, 1000)}), below(rng, 4000), tenant.id, below(rng, 12)),
    ).rowcount
    updated = connection.execute(
        "UPDATE calls SET status = 'succeeded', tokens_out = %s, ended_at = greatest(now(),"
        " started_at) WHERE id = (SELECT id FROM calls WHERE tenant_id = %s AND status = 'running'"
        " ORDER BY started_at LIMIT 1)",
        (below(rng, 900), tenant.id),
    ).rowcount
    return inserted, updated, 0


def _learn(
    connection: psycopg.Connection[Any], tenant: Tenant, rng: random.Random, model: Embedder
) -> _Counts:
    text = passage(tenant.vertical, rng)
    cursor = connection.execute(
        "INSERT INTO embeddings (tenant_id, content, embedding) VALUES (%s, %s, %s)",
        (tenant.id, text, model.embed([text])[0]),
    )
    return cursor.rowcount, 0, 0


def _relearn(
    connection: psycopg.Connection[Any], tenant: Tenant, rng: random.Random, model: Embedder
) -> _Counts:
    text = passage(tenant.vertical, rng)
    cursor = connection.execute(
        "UPDATE embeddings SET content = %(text)s, embedding = %(vector)s WHERE id = (SELECT id"
        " FROM embeddings WHERE tenant_id = %(tenant)s AND id >= %(from)s ORDER BY id LIMIT 1)",
        {
            "text": text,
            "vector": model.embed([text])[0],
            "tenant": tenant.id,
            "from": below(rng, 10_000),
        },
    )
    return 0, cursor.rowcount, 0


def _forget(
    connection: psycopg.Connection[Any], tenant: Tenant, rng: random.Random, _: Embedder
) -> _Counts:
    cursor = connection.execute(
        "DELETE FROM embeddings WHERE id = (SELECT id FROM embeddings WHERE tenant_id = %(tenant)s"
        " AND id >= %(from)s ORDER BY id LIMIT 1)",
        {"tenant": tenant.id, "from": below(rng, 10_000)},
    )
    return 0, 0, cursor.rowcount


def _step(
    connection: psycopg.Connection[Any], tenant: Tenant, rng: random.Random, _: Embedder
) -> _Counts:
    cursor = connection.execute(
        "UPDATE hc_agent_state SET revision = revision + 1, state = %s WHERE (agent_id, patient_id)"
        " = (SELECT agent_id, patient_id FROM hc_agent_state WHERE tenant_id = %s ORDER BY"
        " updated_at LIMIT 1)",
        (Jsonb({"note": passage("healthcare", rng)}), tenant.id),
    )
    return 0, cursor.rowcount, 0


def _session(
    connection: psycopg.Connection[Any], tenant: Tenant, rng: random.Random, _: Embedder
) -> _Counts:
    # Ended sessions leave as new ones come, so the table stays the size it was.
    deleted = connection.execute(
        "DELETE FROM sales_worker_sessions WHERE id ="
        " (SELECT id FROM sales_worker_sessions WHERE tenant_id = %s ORDER BY last_seen_at"
        " LIMIT 1)",
        (tenant.id,),
    ).rowcount
    updated = connection.execute(
        "UPDATE sales_worker_sessions SET heartbeats = heartbeats + 1, last_seen_at = now() WHERE"
        " id = (SELECT id FROM sales_worker_sessions WHERE tenant_id = %s ORDER BY last_seen_at"
        " LIMIT 1)",
        (tenant.id,),
    ).rowcount
    inserted = connection.execute(
        "INSERT INTO sales_worker_sessions (id, tenant_id, agent_id, worker, status)"
        " SELECT %s, tenant_id, id, %s, 'open' FROM agents WHERE tenant_id = %s ORDER BY id"
        " LIMIT 1",
        (uuid.uuid4(), f"worker-{below(rng, 8)}", tenant.id),
    ).rowcount
    return inserted, updated, deleted


_EVERYWHERE: tuple[_Change, ...] = (_say, _say, _call, _learn, _relearn, _forget)
CHANGES: dict[str, Sequence[_Change]] = {
    "healthcare": (*_EVERYWHERE, _step, _step),
    "real_estate": _EVERYWHERE,
    "sales": (*_EVERYWHERE, _session),
}
"""What a tenant of each vertical does, as often as it stands there."""
