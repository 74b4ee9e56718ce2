"""What a stock movement is, the identity by which it is applied once, and what becomes of it."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum

from app.errors import Refusal
from app.stock.quantity import ZERO, to_canonical

IDENTITY_VERSION = "1"
_DATED = len("2026-11-23")


class MovementType(IntEnum):
    """The direction of a movement, as the document numbers it."""

    ADD = 1
    REMOVE = 2


class Source(StrEnum):
    """Who made a ledger row."""

    INVENTORY_SYSTEM = "inventory_system"
    OPENING = "opening"
    RECONCILE = "reconcile"
    """An operator adopted a number."""
    REVERSAL = "reversal"
    POS_SALE = "pos_sale"
    POS_COUNT = "pos_count"
    POS_RECEIPT = "pos_receipt"


@dataclass(frozen=True, slots=True)
class Movement:
    """A change of one item's stock in one store. `quantity` is never negative: the direction is in `movement_type`.

    The quantity of a count is what was counted; the ledger makes of it the change of the level.
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
    """None: when it is received."""
    occurrence: int = 1
    """2 and more for a copy that an operator says is a movement of its own."""
    reason: str | None = None
    reference: str | None = None

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
        dedupe_key=_dated(
            date_text,
            _identity(
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


def opening_movement(*, store_id: str, item_id: str, stock: Decimal) -> Movement:
    """The first row of a ledger: the stock that a store starts with. A negative stock is a removal."""
    return Movement(
        store_id=store_id,
        item_id=item_id,
        movement_type=MovementType.REMOVE if stock < ZERO else MovementType.ADD,
        quantity=stock.copy_abs(),
        source=Source.OPENING,
    )


def reconciling_movement(*, store_id: str, item_id: str, change: Decimal) -> Movement:
    """What an operator adopts, as the change to get there."""
    return Movement(
        store_id=store_id,
        item_id=item_id,
        movement_type=MovementType.REMOVE if change < ZERO else MovementType.ADD,
        quantity=change.copy_abs(),
        source=Source.RECONCILE,
    )


class PosKind(StrEnum):
    """What a POS records."""

    SALE = "sale"
    """Removes."""
    COUNT = "count"
    """Says what there is; the movement is the difference."""
    RECEIPT = "receipt"
    """Adds."""

    @property
    def source(self) -> Source:
        """The source of its ledger row."""
        return Source(f"pos_{self.value}")


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
) -> Movement:
    """A movement that the POS records, at `recorded_at` where it does not say when it happened.

    `number` tells those of one request, with one key, apart.

    The SQL function record_pos_movement (migration 0006) makes the same identity.
    """
    return Movement(
        store_id=store_id,
        item_id=item_id,
        movement_type=MovementType.REMOVE if kind is PosKind.SALE else MovementType.ADD,
        quantity=quantity,
        source=kind.source,
        date_text=(happened_at or recorded_at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        happened_at=happened_at,
        dedupe_key=_identity("pos", store_id, idempotency_key, str(number)),
    )


def _dated(date_text: str, identity: bytes) -> bytes:
    """`identity` with its first bytes replaced by those of the date, mostly the day: 32 bytes again, 22 of them the hash's.

    So the movements of one time lie side by side in the ledger's index of identities. At random places, each would touch a
    page of its own, which in a large ledger is mostly not in memory. The ledger has a check that every key is made so.
    """
    return date_text.encode()[:_DATED].ljust(_DATED, b"\0") + identity[_DATED:]


def _identity(*parts: str) -> bytes:
    """SHA-256 over the length-prefixed parts, so that ("1", "23") is not ("12", "3").

    Source of the choice of parts: docs/reference/mipos-api.md, "Exactly once, without an event id".
    """
    text = "".join([f"{len(part)}:{part}" for part in (IDENTITY_VERSION, *parts)])
    if text.isascii():
        return hashlib.sha256(text.encode()).digest()
    # Lengths are in bytes.
    encoded = [part.encode() for part in (IDENTITY_VERSION, *parts)]
    return hashlib.sha256(b"".join([b"%d:%b" % (len(part), part) for part in encoded])).digest()


@dataclass(frozen=True, slots=True)
class Applied:
    """The movement changed the level; its ledger row has this version, and left this balance."""

    level_version: int
    balance: Decimal


@dataclass(frozen=True, slots=True)
class Known:
    """The ledger holds this movement already, by this row. Nothing changes, and the sender may stop."""

    level_version: int
    balance: Decimal


@dataclass(frozen=True, slots=True)
class Refused:
    """The movement changes nothing, and `error` says why."""

    error: Refusal


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The idempotency key of the POS was used for another movement. Nothing changes."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Not decided: another session holds the level. Ask again later."""


Outcome = Applied | Known | Refused | KeyReused | Busy
