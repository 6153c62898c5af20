"""Rows for any table of the sample: values by column type and name, parents from the same
tenant."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgdrill_demo.texts import below, pick
from pgdrill_demo.values import REFERENCE, value_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgdrill_demo.catalog import Column, Table

PREFIXES = {"hc": "healthcare", "re": "real_estate", "sales": "sales"}
SMALL_TABLE_ROWS = 48
ROWS = {
    "embeddings": 10_000,
    "re_listings_embed": 1_500,
    "sales_convo_embed": 1_500,
    "hc_embeddings": 750,
    "sales_playbooks": 600,
    "messages": 8_000,
    "calls": 4_000,
    "audit_log": 2_000,
    "conversations": 800,
    "documents": 600,
    "users": 120,
    "hc_vitals": 2_000,
    "hc_patients": 400,
    "hc_appointments": 600,
    "hc_agent_state": 300,
    "hc_claims": 300,
    "hc_claim_lines": 600,
    "re_listings": 500,
    "re_properties": 500,
    "re_viewings": 300,
    "re_offers": 200,
    "sales_leads": 800,
    "sales_deals": 400,
    "sales_activities": 800,
    "sales_convos": 500,
    "sales_convo_turns": 1_500,
    "sales_worker_sessions": 120,
}
"""Rows at scale 1 (about 150 MB, loaded in seconds); every table not named here gets
SMALL_TABLE_ROWS."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer of the platform, working in one vertical."""

    id: uuid.UUID
    slug: str
    name: str
    vertical: str


def _tenant(slug: str, name: str, vertical: str) -> Tenant:
    return Tenant(uuid.uuid5(uuid.NAMESPACE_DNS, f"{slug}.pgdrill.example"), slug, name, vertical)


TENANTS = (
    _tenant("lakeside-clinics", "Lakeside Clinics", "healthcare"),
    _tenant("st-brigid-hospital", "St Brigid Hospital", "healthcare"),
    _tenant("harbour-homes", "Harbour Homes", "real_estate"),
    _tenant("oak-and-key", "Oak & Key Estates", "real_estate"),
    _tenant("northwind-crm", "Northwind Sales", "sales"),
    _tenant("brightline-outreach", "Brightline Outreach", "sales"),
)


@dataclass(slots=True)
class Filler:
    """Makes rows table by table and remembers their keys for the foreign keys of those that follow.

    :param scale: multiplies the row counts (at least one row a tenant is made).
    :param seed: the same seed gives the same rows.
    """

    scale: float
    seed: int
    _keys: dict[tuple[str, str], dict[uuid.UUID | None, list[Any]]] = field(default_factory=dict)

    def rows(self, table: Table) -> list[list[Any]]:
        """Return the rows of *table* as lists in column order, vectors still ``None``."""
        # A generator of its own for each table: adding a table leaves the rows of the others as
        # they were.
        rng = random.Random(f"{self.seed}/{table.name}")
        tenants: Sequence[Tenant | None] = _tenants_of(table)
        taken: set[tuple[Any, ...]] = set()
        result = []
        for number in range(self._count(table.name, len(tenants))):
            tenant = tenants[number % len(tenants)]
            row = self._row(table, tenant, number, rng)
            key = tuple(row[name] for name in table.key)
            if key and key in taken:
                continue  # two parents drawn together a second time
            taken.add(key)
            self._remember(table, row)
            result.append([row[name] for name in table.column_names])
        return result

    def _count(self, name: str, tenants: int) -> int:
        if name == "tenants":
            return len(TENANTS)
        if name in REFERENCE:
            return len(REFERENCE[name])
        return max(tenants, round(ROWS.get(name, SMALL_TABLE_ROWS) * self.scale))

    def _row(
        self, table: Table, tenant: Tenant | None, number: int, rng: random.Random
    ) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if table.name == "tenants":
            own = TENANTS[number]
            row = {"id": own.id, "slug": own.slug, "name": own.name, "vertical": own.vertical}
        elif table.name in REFERENCE:
            row = dict(REFERENCE[table.name][number])
        vertical = tenant.vertical if tenant else pick(rng, TENANTS).vertical
        for column in table.columns:
            if column.name in row:
                continue
            if column.name == "tenant_id" and tenant:
                row["tenant_id"] = tenant.id
            elif column.parent and column.parent_column:
                row[column.name] = self._parent(column, tenant, rng)
            elif column.vector:
                row[column.name] = None
            else:
                row[column.name] = value_for(table.name, column, number, vertical, row, rng)
        return row

    def _parent(self, column: Column, tenant: Tenant | None, rng: random.Random) -> Any:
        assert column.parent and column.parent_column  # noqa: S101  (for mypy: the caller looked)
        keys = self._keys.get((column.parent, column.parent_column), {})
        candidates = keys.get(tenant.id if tenant else None) or keys.get(None) or []
        if not candidates or (not column.required and below(rng, 10) == 0):
            return None
        return pick(rng, candidates)

    def _remember(self, table: Table, row: dict[str, Any]) -> None:
        for name in table.key:
            keys = self._keys.setdefault((table.name, name), {})
            keys.setdefault(row.get("tenant_id"), []).append(row[name])


def _tenants_of(table: Table) -> Sequence[Tenant | None]:
    if "tenant_id" not in table.column_names:
        return (None,)
    vertical = PREFIXES.get(table.name.split("_", 1)[0])
    return [tenant for tenant in TENANTS if vertical in (None, tenant.vertical)]
