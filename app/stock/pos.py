"""What a POS records: sales, receipts, counts, returns, waste, adjustments and transfers."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from app.stock.identity import identity_of
from app.stock.movement import Movement, MovementType, Source
from app.stock.quantity import ZERO


class PosKind(StrEnum):
    """What a POS records."""

    SALE = "sale"
    """Removes."""
    RECEIPT = "receipt"
    """Adds."""
    COUNT = "count"
    """Says what there was; the movement is the difference."""
    RETURN = "return"
    """Adds what a customer brought back."""
    WASTE = "waste"
    """Removes what was thrown away."""
    ADJUSTMENT = "adjustment"
    """Adds, or with a sign removes; it has a reason."""
    TRANSFER = "transfer"
    """Removes here and adds in another store."""

    @property
    def source(self) -> Source:
        """The source of its ledger row."""
        return Source(f"pos_{self.value}")

    @property
    def removes(self) -> bool:
        """Whether it takes from the store that records it."""
        return self in (PosKind.SALE, PosKind.WASTE, PosKind.TRANSFER)


def pos_movement(  # noqa: PLR0913 - what makes one
    *,
    store_id: str,
    item_id: str,
    kind: PosKind,
    quantity: Decimal,
    idempotency_key: str,
    happened_at: datetime | None,
    recorded_at: datetime,
    number: int = 0,
    reason: str | None = None,
    reference: str | None = None,
    to_store_id: str | None = None,
) -> Movement:
    """A movement that the POS records, at `recorded_at` where it does not say when it happened.

    `number` tells those of one request, with one key, apart. `quantity` is negative only in an adjustment that removes. Of a
    transfer, this is the half in the store that gives; `receiving_half` makes the other.

    The SQL function record_movement (migration 0007) makes the same identity.
    """
    return Movement(
        store_id=store_id,
        item_id=item_id,
        movement_type=MovementType.REMOVE if kind.removes or quantity < ZERO else MovementType.ADD,
        quantity=quantity.copy_abs(),
        source=kind.source,
        date_text=(happened_at or recorded_at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        happened_at=happened_at,
        dedupe_key=identity_of("pos", store_id, idempotency_key, str(number)),
        reason=reason,
        reference=reference,
        other_store_id=to_store_id,
    )


def receiving_half(given: Movement) -> Movement:
    """The half of a transfer in the store that receives; its identity is that of the half `given`, in another store."""
    assert given.other_store_id is not None
    return replace(given, store_id=given.other_store_id, other_store_id=given.store_id, movement_type=MovementType.ADD)
