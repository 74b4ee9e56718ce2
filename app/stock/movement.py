"""What a stock movement is, the identity by which it is applied once, and what becomes of it."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import IntEnum, StrEnum

from app.errors import Refusal
from app.stock.identity import dated, identity_of, moments_in
from app.stock.quantity import ZERO, to_canonical


class MovementType(IntEnum):
    """The direction of a movement, as the document numbers it."""

    ADD = 1
    REMOVE = 2


class Source(StrEnum):
    """Who made a ledger row."""

    INVENTORY_SYSTEM = "inventory_system"
    OPENING = "opening"
    UNIT_CHANGE = "unit_change"
    """A count in the item's new unit. It is told to nobody: a full synchronisation tells it."""
    RECONCILE = "reconcile"
    """An operator adopted a number: one that was counted, or (with an inventory system) that system's."""
    CORRECTION = "correction"
    """A count had held the movement of the row before: the level does not move. `refers_to` is the count's row."""
    REVERSAL = "reversal"
    """The opposite of the row `refers_to`."""
    POS_SALE = "pos_sale"
    POS_COUNT = "pos_count"
    POS_RECEIPT = "pos_receipt"
    POS_RETURN = "pos_return"
    POS_WASTE = "pos_waste"
    POS_ADJUSTMENT = "pos_adjustment"
    POS_TRANSFER = "pos_transfer"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a delivery is about, as far as it is known."""

    store_id: str | None = None
    item_id: str | None = None
    inventory_system_id: str | None = None


@dataclass(frozen=True, slots=True)
class Movement:
    """A change of one item's stock in one store. `quantity` is never negative: the direction is in `movement_type`.

    The quantity of a count is what was counted; the ledger makes of it the change of the level. That of a reversal is 0: the
    ledger knows what it takes back.
    """

    store_id: str
    item_id: str
    movement_type: MovementType
    quantity: Decimal
    source: Source
    inventory_system_id: str | None = None
    reported_stock: Decimal | None = None
    """The sender's own stock, kept as a report and never written over ours."""
    date_text: str | None = None
    """The movement's date as sent; it has no zone, so it is interpreted only for showing."""
    sent_at_text: str | None = None
    """`now` of the delivery: when mipOS sent it. Never part of the identity: a retry carries a new one."""
    dedupe_key: bytes | None = None
    """32 bytes, or None for what cannot arrive twice (an opening row)."""
    pos_id: str | None = None
    """The POS that a report was meant for."""
    happened_at: datetime | None = None
    """None: at `local_at`, or else when it is received."""
    local_at: datetime | None = None
    """When it happened, by a clock of the store: without a zone."""
    occurrence: int = 1
    """2 and more for a copy that an operator says is a movement of its own."""
    other_store_id: str | None = None
    """Of a transfer: the store at its other end."""
    refers_to: int | None = None
    """Of a reversal: the level_version of the row that it takes back."""
    reason: str | None = None
    reference: str | None = None

    @property
    def is_count(self) -> bool:
        """Whether it says what there was, and not what changed."""
        if self.source is Source.RECONCILE:
            return self.inventory_system_id is None
        return self.source in (Source.POS_COUNT, Source.OPENING, Source.UNIT_CHANGE)

    @property
    def key(self) -> tuple[str, str]:
        """The stock level that it changes: (store_id, item_id)."""
        return self.store_id, self.item_id

    @property
    def delta(self) -> Decimal:
        """The signed change of the level."""
        # Not `-quantity`: that rounds to the 28 digits of the default decimal context, and a quantity has up to 29.
        return self.quantity if self.movement_type is MovementType.ADD else self.quantity.copy_negate()


def reported_movement(  # noqa: PLR0913 - the eight fields of the document that make a movement
    *,
    inventory_system_id: str,
    store_id: str,
    item_id: str,
    movement_type: MovementType,
    quantity: Decimal,
    reported_stock: Decimal,
    date_text: str,
    sent_at_text: str,
    pos_id: str | None = None,
) -> Movement:
    """A movement that an inventory system reported, with its identity."""
    happened_at, local_at = moments_in(date_text)
    return Movement(
        store_id=store_id,
        item_id=item_id,
        movement_type=movement_type,
        quantity=quantity,
        source=Source.INVENTORY_SYSTEM,
        inventory_system_id=inventory_system_id,
        reported_stock=reported_stock,
        date_text=date_text,
        sent_at_text=sent_at_text,
        pos_id=pos_id,
        happened_at=happened_at,
        local_at=local_at,
        dedupe_key=dated(
            date_text,
            identity_of(
                inventory_system_id,
                store_id,
                item_id,
                str(int(movement_type)),
                to_canonical(quantity),
                to_canonical(reported_stock),
                date_text,
            ),
        ),
    )


def opening_movement(*, store_id: str, item_id: str, stock: Decimal, as_of: datetime | None = None) -> Movement:
    """The stock that a store starts with: a count at `as_of`, or now. A negative stock is a removal."""
    return _stated(store_id, item_id, stock, Source.OPENING, happened_at=as_of)


def counted_movement(*, store_id: str, item_id: str, stock: Decimal) -> Movement:
    """The number that an operator says is there: a count now."""
    return _stated(store_id, item_id, stock, Source.RECONCILE)


def recounted_movement(*, store_id: str, item_id: str, stock: Decimal) -> Movement:
    """The stock in an item's new unit: a count now, since what happened before it is in the old one."""
    return _stated(store_id, item_id, stock, Source.UNIT_CHANGE)


def adopted_movement(*, store_id: str, item_id: str, inventory_system_id: str, change: Decimal) -> Movement:
    """The change by which an operator adopts the number of an inventory system."""
    movement = _stated(store_id, item_id, change, Source.RECONCILE)
    return replace(movement, inventory_system_id=inventory_system_id)


def _stated(store_id: str, item_id: str, quantity: Decimal, source: Source, *, happened_at: datetime | None = None) -> Movement:
    return Movement(
        store_id=store_id,
        item_id=item_id,
        movement_type=MovementType.REMOVE if quantity < ZERO else MovementType.ADD,
        quantity=quantity.copy_abs(),
        source=source,
        happened_at=happened_at,
    )


def reversing_movement(*, store_id: str, item_id: str, level_version: int) -> Movement:
    """What takes back the row `level_version` of an item's ledger."""
    movement = _stated(store_id, item_id, ZERO, Source.REVERSAL)
    return replace(movement, refers_to=level_version)


@dataclass(frozen=True, slots=True)
class Correction:
    """The count of `counted_at` had held the movement already: `amount` takes its change back, so that the level stays."""

    amount: Decimal
    counted_at: datetime


@dataclass(frozen=True, slots=True)
class Applied:
    """The movement is in the ledger, by the row of this version; the balance is the level after it and its correction."""

    level_version: int
    balance: Decimal
    correction: Correction | None = None
    is_before_count: bool = False
    """Of a report: its own date lies before the newest count, which may have held it."""


@dataclass(frozen=True, slots=True)
class Known:
    """The ledger holds this movement already, by this row. Nothing changes, and the sender may stop."""

    level_version: int
    balance: Decimal
    correction: Correction | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The movement changes nothing, and `error` says why."""

    error: Refusal


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The idempotency key of the POS was used for another movement. Nothing changes."""


@dataclass(frozen=True, slots=True)
class Echo:
    """The report equals a stock update that we sent to that system: it is our own movement. Nothing changes."""

    level_version: int
    """Of the newest row when it came."""


@dataclass(frozen=True, slots=True)
class NotRecorded:
    """Nothing is wrong with it, but another member of its unit was refused. Nothing changes."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Not decided: another session holds the level. Ask again later."""


Outcome = Applied | Known | Refused | KeyReused | Echo | NotRecorded | Busy
