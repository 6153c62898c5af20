"""One value for one column: its type says what kind, its name says what it means."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb
from psycopg.types.range import TimestamptzRange

from pgdrill_demo import vocabulary as words
from pgdrill_demo.texts import below, passage, pick

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from pgdrill_demo.catalog import Column

AS_OF = datetime(2026, 9, 7, tzinfo=UTC)
"""The sample's today. Fixed, so that two loads are equal."""
LARGE_OBJECT_BASE = 920_000
"""Large objects get numbers of our choosing, for the server's own would differ between loads."""

REFERENCE: dict[str, list[dict[str, Any]]] = {
    "currencies": [
        {"code": code, "name": name}
        for code, name in (
            ("EUR", "Euro"),
            ("USD", "US dollar"),
            ("GBP", "Pound sterling"),
            ("CHF", "Swiss franc"),
            ("SEK", "Krona"),
        )
    ],
    "countries": [
        {"code": code, "name": name}
        for code, name in (
            ("DE", "Germany"),
            ("FR", "France"),
            ("IE", "Ireland"),
            ("NL", "Netherlands"),
            ("PT", "Portugal"),
            ("US", "USA"),
        )
    ],
    "languages": [
        {"code": code, "name": name}
        for code, name in (
            ("en", "English"),
            ("de", "German"),
            ("fr", "French"),
            ("pt", "Portuguese"),
            ("tr", "Turkish"),
        )
    ],
    "subscription_plans": [
        {"name": name} for name in ("Starter", "Team", "Business", "Enterprise")
    ],
    "models": [
        {"name": name}
        for name in (
            "small-chat",
            "large-chat",
            "reasoner",
            "hashing-384",
            "hashing-1536",
            "hashing-3072",
        )
    ],
    "tools": [
        {"name": name}
        for name in (
            "search_documents",
            "book_appointment",
            "read_vitals",
            "submit_claim",
            "find_listings",
            "schedule_viewing",
            "draft_offer",
            "send_email",
            "update_deal",
            "create_quote",
            "web_search",
            "calculator",
        )
    ],
    "feature_flags": [
        {"code": code}
        for code in ("voice-calls", "hybrid-search", "auto-triage", "deal-coach", "floor-plans")
    ],
}
"""Tables whose rows have names of their own."""

# Whole numbers by column name: lowest and one past the highest. The CHECK constraints lie outside
# of these.
_NUMBERS = {
    "rating": (1, 6),
    "score": (0, 101),
    "walk_score": (20, 101),
    "systolic": (95, 180),
    "diastolic": (55, 95),
    "pulse": (50, 120),
    "floors": (1, 12),
    "floor": (0, 9),
    "built_year": (1890, 2026),
    "bedrooms": (1, 6),
    "bathrooms": (1, 4),
    "quantity": (1, 25),
    "position": (1, 20),
    "attempts": (0, 5),
    "term_months": (60, 361),
    "scale_denominator": (50, 500),
    "context_tokens": (8_000, 200_000),
    "seats": (1, 500),
    "revision": (0, 40),
    "repeats": (0, 4),
    "beds": (1, 5),
}
_PERCENTAGES = ("share", "progress", "discount", "reached")
_SINCE = {
    "ends_at": "starts_at",
    "ended_at": "started_at",
    "closed_at": "opened_at",
    "ends_on": "starts_on",
    "paid_on": "issued_on",
}
_VOCABULARY = {
    "first_name": words.FIRST_NAMES,
    "last_name": words.LAST_NAMES,
    "city": words.CITIES,
    "industry": words.INDUSTRIES,
    "channel": words.CHANNELS,
    "status": words.STATUSES,
    "speciality": ("cardiology", "paediatrics", "surgery", "family medicine"),
    "relation": ("spouse", "parent", "colleague", "decision maker"),
    "unit": ("mg/dl", "mmol/l", "U/l", "%"),
    "substance": (
        "metformin",
        "amlodipine",
        "ibuprofen",
        "penicillin",
        "pollen",
        "insulin glargine",
        "measles vaccine",
    ),
    "analyte": ("glucose", "HbA1c", "troponin", "ferritin", "cholesterol"),
    "modality": ("MRI", "CT", "X-ray", "ultrasound"),
    "body_site": ("spine", "wrist", "chest", "knee"),
    "purpose": ("treatment", "research", "billing", "reminders"),
    "energy_class": ("A", "B", "C", "D", "E"),
    "feature": ("balcony", "lift", "sauna", "garage", "fireplace"),
    "step": ("intake", "triage", "scheduling", "reminder", "done"),
    "job_title": ("CFO", "buyer", "head of IT", "founder"),
    "cron": ("0 6 * * *", "*/15 * * * *", "0 9 * * 1"),
    "action": ("INSERT", "UPDATE", "DELETE"),
    "provider": ("in-house", "hosted"),
    "test_code": ("GLU", "CBC", "LIP", "TSH"),
    "actor": ("agents_app", "agents_service"),
    "task": ("qualify", "enrich", "follow up", "score"),
    "lender": ("Savings Bank", "Mutual Home Loans", "Coast Credit"),
}
_PROSE = (
    "body",
    "content",
    "notes",
    "summary",
    "description",
    "instructions",
    "findings",
    "reason",
    "comment",
    "strengths",
    "conditions",
    "query",
)


def value_for(
    table: str, column: Column, number: int, vertical: str, row: dict[str, Any], rng: random.Random
) -> Any:
    """Return a value for *column* of row *number* (from 0), given the columns of *row* made so
    far."""
    kind, name = column.type, column.name
    if column.labels:
        return pick(rng, column.labels)
    if kind in ("text", "varchar"):
        return _text(table, name, number, vertical, rng)
    if kind in ("timestamptz", "date"):
        return _moment(name, kind, row, rng)
    if kind in ("int2", "int4", "int8"):
        return number + 1 if name in ("id", "number") else _whole(name, kind, rng)
    return _other(table, kind, name, number, vertical, rng)


def _other(table: str, kind: str, name: str, number: int, vertical: str, rng: random.Random) -> Any:
    match kind:
        case "numeric":
            return Decimal(below(rng, _most_cents(name)) + 1) / 100
        case "uuid":
            bits = below(rng, 2**53) << 75 | below(rng, 2**53) << 20 | number
            return uuid.UUID(int=bits, version=4)
        case "jsonb":
            topic = passage(vertical, rng)[:40]
            return Jsonb(
                {"topic": topic, "steps": [below(rng, 100) for _ in range(3)], "n": number}
            )
        case "oid":
            return None  # a large object; the loader makes some
    if kind in _BY_CHANCE:
        return _BY_CHANCE[kind](rng)
    message = f"no values for {table}.{name} of type {kind}"
    raise NotImplementedError(message)


def _time_range(rng: random.Random) -> TimestamptzRange:
    start = AS_OF - timedelta(hours=below(rng, 4_000))
    return TimestamptzRange(start, start + timedelta(hours=1 + below(rng, 200)))


# Types whose values mean nothing more.
_BY_CHANCE: dict[str, Callable[[random.Random], Any]] = {
    "bool": lambda rng: below(rng, 2) == 1,
    "float4": lambda rng: below(rng, 2_000) / 1_000,
    "float8": lambda rng: below(rng, 2_000) / 1_000,
    "_text": lambda rng: [pick(rng, words.INDUSTRIES), pick(rng, words.CHANNELS)],
    "tstzrange": _time_range,
    "bytea": lambda rng: bytes(below(rng, 256) for _ in range(32)),
    "inet": lambda rng: f"10.{below(rng, 256)}.{below(rng, 256)}.{below(rng, 256)}",
    "interval": lambda rng: timedelta(seconds=30 + below(rng, 600)),
}


def _most_cents(name: str) -> int:
    if _is_percentage(name):
        return 10_000
    return 90_000_000 if "price" in name else 80_000


def _is_percentage(name: str) -> bool:
    return name in _PERCENTAGES or name.endswith(("_rate", "_probability"))


def _whole(name: str, kind: str, rng: random.Random) -> int:
    low, past = _NUMBERS.get(name, (0, 100) if kind == "int2" else (1, 5_000))
    return low + below(rng, past - low)


def _moment(name: str, kind: str, row: dict[str, Any], rng: random.Random) -> datetime | date:
    since: datetime | date | None = row.get(_SINCE.get(name, ""))
    if since is not None:
        return since + (
            timedelta(days=1 + below(rng, 300))
            if kind == "date"
            else timedelta(minutes=1 + below(rng, 90))
        )
    # What was updated was created before: created in the first 200 days, updated in the last 20.
    days_ago = below(rng, 20) if name.startswith(("updated", "last_")) else 20 + below(rng, 200)
    if name == "born_on":
        days_ago = 365 + below(rng, 32_000)
    moment = AS_OF - timedelta(days=days_ago, seconds=below(rng, 86_400))
    return moment.date() if kind == "date" else moment


def _text(table: str, name: str, number: int, vertical: str, rng: random.Random) -> str:  # noqa: PLR0911  (one case a meaning)
    if name in _VOCABULARY:
        return pick(rng, _VOCABULARY[name])
    if name in _PROSE:
        return passage(vertical, rng)
    first, last = pick(rng, words.FIRST_NAMES), pick(rng, words.LAST_NAMES)
    match name:
        case "email":
            return f"{first}.{last}.{number}@{table.replace('_', '-')}.example".lower()
        case "phone":
            return f"+49 555 {100_000 + below(rng, 900_000)}"
        case "url" | "website":
            return f"https://{last.lower()}.example/{table}/{number}"
        case "street":
            return f"{pick(rng, words.STREETS)} {1 + below(rng, 200)}"
        case "postcode":
            return f"{10_000 + below(rng, 90_000)}"
        case "full_name" | "inspector" | "worker":
            return f"{first} {last}"
    return _label(name, number, vertical, rng)


def _label(name: str, number: int, vertical: str, rng: random.Random) -> str:
    """What a thing is called, or coded with."""
    if name in ("title", "subject", "caption", "condition", "value", "dosage"):
        return passage(vertical, rng).split("; ")[0]
    if name.endswith("code") or name in ("key", "row_key"):
        return f"{name[:2].upper()}-{number + 1:05d}"
    return f"{pick(rng, words.ADJECTIVES)} {pick(rng, words.NOUNS)} {number + 1}"
