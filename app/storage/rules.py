"""The recorded rules: one row that every door reads, so that two processes with different settings cannot judge differently."""

from typing import Any

import asyncpg
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.stock.rules import NegativeStock, ReportedStock, Rules
from app.storage.tables import service_rule

_NAMES = tuple(Rules.__dataclass_fields__)
_RECORD = """
INSERT INTO pos_sync.service_rule (pos_id, negative_stock, reported_stock, timezone, max_count_age_days)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (is_only) DO NOTHING
"""
_READ = "SELECT pos_id, negative_stock, reported_stock, timezone, max_count_age_days FROM pos_sync.service_rule"


async def record_first(connection: asyncpg.Connection, rules: Rules) -> Rules:
    """Record `rules` unless some are recorded already, and return those that count."""
    row = await connection.fetchrow(_READ)
    if row is None:
        await connection.execute(_RECORD, *(getattr(rules, name) for name in _NAMES))
        # Another process may have been first: its rules count then.
        row = await connection.fetchrow(_READ)
    assert row is not None
    return _rules(dict(row))


async def read_rules(connection: AsyncConnection) -> Rules | None:
    """Return the recorded rules; None before the service first started."""
    row = (await connection.execute(select(*(service_rule.c[name] for name in _NAMES)))).one_or_none()
    return None if row is None else _rules(row._asdict())


async def effective_rules(connection: AsyncConnection, own: Rules) -> Rules:
    """Return the recorded rules; `own` before the service first started."""
    return await read_rules(connection) or own


async def replace_rules(connection: AsyncConnection, rules: Rules) -> None:
    """Record `rules` in place of those that are recorded; every door follows them from the commit on."""
    values = {name: getattr(rules, name) for name in _NAMES}
    statement = insert(service_rule).values(values)
    changed = {**{name: statement.excluded[name] for name in _NAMES}, "recorded_at": statement.excluded.recorded_at}
    await connection.execute(statement.on_conflict_do_update(index_elements=["is_only"], set_=changed))


def _rules(values: dict[str, Any]) -> Rules:
    return Rules(
        pos_id=values["pos_id"],
        negative_stock=NegativeStock(values["negative_stock"]),
        reported_stock=ReportedStock(values["reported_stock"]),
        timezone=values["timezone"],
        max_count_age_days=values["max_count_age_days"],
    )
