"""One stock update: the body that is sent, and what an answer makes of its message. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from app.mipos.answers import Answer, Done, NeedsHuman, Transient, Unauthorized, backoff
from app.stock.movement import MovementType, reported_movement
from app.stock.quantity import to_plain
from app.stock.text import DATE_FORMAT, zone_of
from app.storage.outbox import OutboxMessage, OutboxState, Settled

MAX_ODD_REFUSALS = 8
"""How often a message is tried that is refused neither by mipOS's rules (409, 422) nor for the moment: then it is dead."""
MAX_ACCOUNT_PAUSE = timedelta(minutes=1)
"""How long a message waits at most where the account or the store is not set up. No number of such tries makes it dead."""
_DEAD = {HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}


def stock_update_body(message: OutboxMessage) -> dict[str, Any]:
    """The documented body (docs/reference/pos-sync-inventory.md): numbers as strings, the date in the store's timezone."""
    return {
        "user_id_tps": message.user_id_tps,
        "inventory_system_id": message.inventory_system_id,
        "current_stock": to_plain(message.current_stock),
        "quantity": to_plain(message.quantity),
        "date": _local_time(message).strftime(DATE_FORMAT),
        "movement_type": message.movement_type,
        "external_id": message.item_id,
    }


def echo_identity(message: OutboxMessage, body: Mapping[str, Any]) -> bytes:
    """The identity that `message` would have if the inventory system reported it back to the letter."""
    report = reported_movement(
        inventory_system_id=message.inventory_system_id,
        store_id=message.store_id,
        item_id=message.item_id,
        movement_type=MovementType(message.movement_type),
        quantity=message.quantity,
        reported_stock=message.current_stock,
        date_text=body["date"],
        sent_at_text="",
    )
    assert report.dedupe_key is not None
    return report.dedupe_key


def _local_time(message: OutboxMessage) -> datetime:
    try:
        return message.happened_at.astimezone(zone_of(message.timezone))
    except OverflowError:
        # At the very edge of the calendar.
        return message.happened_at.astimezone(UTC)


def verdict_of(answer: Answer, message: OutboxMessage, *, jitter: float) -> Settled:
    """What becomes of `message` after `answer`; `jitter` is from 0 to 1.

    409 and 422 are mipOS's own rules: sent again, the same message is refused again, so it waits for a person and the pair goes
    on. Other refusals come from anywhere between here and the inventory system, and may pass.
    """
    match answer:
        case Done():
            return Settled(message, OutboxState.SENT)
        case NeedsHuman(words, status) if status in _DEAD:
            return Settled(message, OutboxState.DEAD, words)
        case NeedsHuman(words, status):
            if message.attempts >= MAX_ODD_REFUSALS:
                return Settled(message, OutboxState.DEAD, f"{status}: {words}")
            return Settled(message, OutboxState.PENDING, f"{status}: {words}", backoff(message.attempts + 3, jitter=jitter))
        case Unauthorized(words):
            pause = min(backoff(message.attempts + 3, jitter=jitter), MAX_ACCOUNT_PAUSE)
            return Settled(message, OutboxState.PENDING, f"No access to mipOS: {words}", pause)
        case Transient(words, retry_after, may_have_arrived):
            pause = backoff(message.attempts, jitter=jitter, asked=retry_after)
            return Settled(message, OutboxState.PENDING, words, pause, may_have_arrived)
