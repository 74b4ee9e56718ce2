"""The tables, as migrations make them; a test holds the two together.

Natural text keys, the store first in every key, so that the schema can be sharded by store. Quantities are `numeric` without
a fixed scale, since a fixed one rounds silently; checks keep out NaN, Infinity and what could not be held exactly.
"""

from app.storage.tables.base import metadata
from app.storage.tables.catalog import integration, item, store, supplier, unit
from app.storage.tables.ledger import service_rule, stock_level, stock_movement
from app.storage.tables.mipos import access_token, lease, webhook_registration
from app.storage.tables.outbound import outbox_message, sync_run
from app.storage.tables.unapplied import refused_delivery, suspected_duplicate

__all__ = [
    "access_token",
    "integration",
    "item",
    "lease",
    "metadata",
    "outbox_message",
    "refused_delivery",
    "service_rule",
    "stock_level",
    "stock_movement",
    "store",
    "supplier",
    "suspected_duplicate",
    "sync_run",
    "unit",
    "webhook_registration",
]
