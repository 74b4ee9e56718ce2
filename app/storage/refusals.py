"""Signed deliveries that were refused, kept so that a person can see them and apply them later."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import asyncpg

_RECORD = """
INSERT INTO refused_delivery (
  fingerprint, reason, http_status, message, raw_body, store_id, item_id, inventory_system_id, attempts
)
SELECT * FROM unnest(
  $1::bytea[], $2::text[], $3::smallint[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::integer[]
)
ON CONFLICT (fingerprint, reason) DO UPDATE SET
  attempts = refused_delivery.attempts + excluded.attempts,
  http_status = excluded.http_status,
  message = excluded.message,
  raw_body = excluded.raw_body,
  last_seen_at = now(),
  -- What an operator dismissed stays dismissed; what was applied once and is refused again needs a look.
  state = CASE WHEN refused_delivery.state = 'dismissed' THEN 'dismissed' ELSE 'open' END,
  closed_at = CASE WHEN refused_delivery.state = 'dismissed' THEN refused_delivery.closed_at END
"""

_CLOSE = """
UPDATE refused_delivery SET state = 'resolved', closed_at = now()
WHERE state = 'open' AND fingerprint = ANY ($1::bytea[])
"""


@dataclass(frozen=True, slots=True)
class RefusedDelivery:
    """One refused delivery. `fingerprint` is its movement's identity, or the SHA-256 of a body that could not be read."""

    fingerprint: bytes
    reason: str
    http_status: int
    message: str
    raw_body: bytes
    store_id: str | None = None
    item_id: str | None = None
    inventory_system_id: str | None = None


async def record(connection: asyncpg.Connection, refused: Iterable[RefusedDelivery]) -> None:
    """Keep `refused`, one row per fingerprint and reason; a repeated one raises `attempts`. Runs in the caller's transaction."""
    attempts: dict[tuple[bytes, str], int] = {}
    latest: dict[tuple[bytes, str], RefusedDelivery] = {}
    for delivery in refused:
        key = (delivery.fingerprint, delivery.reason)
        attempts[key] = attempts.get(key, 0) + 1
        latest[key] = delivery
    # In key order, so that two transactions never wait for each other in a circle.
    rows = [latest[key] for key in sorted(latest)]
    await connection.execute(
        _RECORD,
        [row.fingerprint for row in rows],
        [row.reason for row in rows],
        [row.http_status for row in rows],
        [row.message for row in rows],
        [row.raw_body for row in rows],
        [row.store_id for row in rows],
        [row.item_id for row in rows],
        [row.inventory_system_id for row in rows],
        [attempts[key] for key in sorted(latest)],
    )


async def close(connection: asyncpg.Connection, fingerprints: Sequence[bytes]) -> None:
    """Close the open refusals of movements that turn out to be in the ledger. Runs in the caller's transaction."""
    await connection.execute(_CLOSE, fingerprints)
