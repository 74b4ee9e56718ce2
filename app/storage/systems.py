"""What the reports of inventory systems look like."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

MIN_REPORTS = 3
DATELESS = r"^[0-9-]+([ T]00:00(:00)?[.0]*(Z|[+-][0-9:]+)?)?$"
"""A day alone, or midnight, which stands for it."""

# The summary of received_at finds the pages of a week.
_DATELESS = """
SELECT store_id, inventory_system_id FROM pos_sync.stock_movement AS m
JOIN pos_sync.integration USING (store_id, inventory_system_id)
WHERE m.received_at > now() - interval '7 days' AND m.source = 'inventory_system' AND integration.repeated_dates = 'suspect'
GROUP BY store_id, inventory_system_id
HAVING count(*) >= :least AND bool_and(m.date_text ~ :dateless)
ORDER BY 1, 2
"""


async def list_dateless(connection: AsyncConnection) -> list[tuple[str, str]]:
    """(store_id, inventory_system_id) of whose reports of a week none names a time of day, and nobody has decided about them."""
    return [(row[0], row[1]) for row in await connection.execute(text(_DATELESS), {"least": MIN_REPORTS, "dateless": DATELESS})]
