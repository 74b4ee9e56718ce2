"""What an answer of mipOS makes of a message."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.mipos.answers import Answer, Done, NeedsHuman, Transient, Unauthorized
from app.mipos.stock_update import MAX_ACCOUNT_PAUSE, verdict_of
from app.storage.outbox import OutboxMessage, OutboxState


def message(attempts: int) -> OutboxMessage:
    return OutboxMessage(
        outbox_message_id=1,
        store_id="1",
        item_id="avcc123",
        level_version=2,
        inventory_system_id="system",
        user_id_tps="30",
        attempts=attempts,
        movement_type=2,
        quantity=Decimal(1),
        current_stock=Decimal(2),
        happened_at=datetime(2026, 1, 1, tzinfo=UTC),
        mipos_store_id="1",
        timezone="UTC",
        claimed_until=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("answer", "attempts", "state"),
    [
        (Done(""), 1, OutboxState.SENT),
        (NeedsHuman("no", 409), 1, OutboxState.DEAD),
        (NeedsHuman("no", 422), 1, OutboxState.DEAD),
        (NeedsHuman("no", 403), 7, OutboxState.PENDING),
        (NeedsHuman("no", 403), 8, OutboxState.DEAD),
        (Transient("away"), 1000, OutboxState.PENDING),
        (Unauthorized("no"), 1000, OutboxState.PENDING),
    ],
)
def test_only_what_is_refused_for_itself_dies(answer: Answer, attempts: int, state: OutboxState) -> None:
    assert state is verdict_of(answer, message(attempts), jitter=0).state


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 8), (2, 16), (4, 60), (1000, 60)])
def test_a_message_without_access_is_tried_again_within_a_minute(attempts: int, seconds: int) -> None:
    assert timedelta(minutes=1) == MAX_ACCOUNT_PAUSE
    assert timedelta(seconds=seconds) == verdict_of(Unauthorized("no"), message(attempts), jitter=0).pause
