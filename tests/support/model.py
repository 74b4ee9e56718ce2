"""The model of the ledger: the rules of `apply_movements` in plain Python, to hold the SQL function against.

One movement after the other, each on what those before it left. Nothing here knows of locks, snapshots or batches.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from app.errors import BelowZero, BeyondRange, IntegrationDisabled, NoIntegration, OtherPos, Refusal, UnknownItem, UnknownStore
from app.stock.movement import Applied, KeyReused, Known, Movement, MovementType, Outcome, Refused, Source
from app.stock.quantity import EXACT, ZERO, to_canonical
from app.stock.rules import NegativeStock

BOUND = Decimal(10) ** 15
LevelKey = tuple[str, str]
"""(store_id, item_id)"""
Identity = tuple[str, bytes, int]
"""(store_id, dedupe_key, occurrence)"""
_POS = (Source.POS_SALE, Source.POS_COUNT, Source.POS_RECEIPT)


@dataclass(frozen=True)
class Level:
    """The stock of one item in one store; `version` counts the ledger rows behind it."""

    quantity: Decimal = ZERO
    version: int = 0


@dataclass(frozen=True)
class Entry:
    """A row of the ledger."""

    movement: Movement
    level_version: int
    delta: Decimal
    balance_after: Decimal


@dataclass
class Model:
    """A POS: what it knows, its levels, and its ledger."""

    stores: Mapping[str, NegativeStock | None]
    items: Collection[str]
    integrations: Mapping[tuple[str, str], bool]
    """(store_id, inventory_system_id) -> enabled"""
    negative_stock: NegativeStock = NegativeStock.ALLOW
    pos_id: str | None = None
    levels: dict[LevelKey, Level] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    identities: dict[Identity, Entry] = field(default_factory=dict)

    def apply(self, movements: Sequence[Movement]) -> list[Outcome]:
        """Return the outcomes of one call. Copies in it take the outcome of the first of them; applied, the others are known."""
        first: dict[Identity, tuple[Movement, Outcome]] = {}
        known = set(self.identities)
        outcomes: list[Outcome] = []
        for movement in movements:
            identity = _identity(movement)
            # What the ledger holds already is judged by the ledger, also where the first in this call said something else.
            original = None if identity is None or identity in known else first.get(identity)
            if self._is_for_other_pos(movement):
                outcome: Outcome = Refused(OtherPos(movement.pos_id or ""))
            elif original is None:
                outcome = self._apply_one(movement)
                if identity is not None:
                    first[identity] = movement, outcome
            elif movement.source in _POS and _said(movement) != _said(original[0]):
                outcome = KeyReused()
            elif isinstance(original[1], Applied):
                outcome = Known(original[1].level_version, original[1].balance)
            else:
                outcome = original[1]
            outcomes.append(outcome)
        return outcomes

    def _is_for_other_pos(self, movement: Movement) -> bool:
        return self.pos_id is not None and movement.pos_id not in (None, self.pos_id)

    def _apply_one(self, movement: Movement) -> Outcome:
        identity = _identity(movement)
        known = None if identity is None else self.identities.get(identity)
        if known is not None:
            is_same = movement.source not in _POS or _said(movement) == _said(known.movement)
            return Known(known.level_version, known.balance_after) if is_same else KeyReused()
        level = self.levels.get(movement.key, Level())
        delta = movement.delta if movement.source is not Source.POS_COUNT else EXACT.subtract(movement.quantity, level.quantity)
        balance = EXACT.add(level.quantity, delta)
        refusal = self._refusal(movement, level=level, delta=delta, balance=balance)
        if refusal is not None:
            return Refused(refusal)
        if movement.source is Source.OPENING and level.version:
            return Known(0, ZERO)
        entry = Entry(movement, level.version + 1, delta, balance)
        self.levels[movement.key] = Level(balance, entry.level_version)
        self.entries.append(entry)
        if identity is not None:
            self.identities[identity] = entry
        return Applied(entry.level_version, balance)

    def _refusal(self, movement: Movement, *, level: Level, delta: Decimal, balance: Decimal) -> Refusal | None:
        store_id, item_id, system_id = movement.store_id, movement.item_id, movement.inventory_system_id
        if store_id not in self.stores:
            return UnknownStore(store_id)
        if movement.source is Source.INVENTORY_SYSTEM:
            assert system_id is not None
            is_enabled = self.integrations.get((store_id, system_id))
            if is_enabled is None:
                return NoIntegration(store_id=store_id, inventory_system_id=system_id)
            if not is_enabled:
                return IntegrationDisabled(store_id=store_id, inventory_system_id=system_id)
        if item_id not in self.items:
            return UnknownItem(item_id)
        if movement.source is Source.OPENING and level.version:
            return None
        if not (balance.copy_abs() < BOUND and delta.copy_abs() < BOUND):
            return BeyondRange(item_id=item_id, store_id=store_id)
        default = NegativeStock.ALLOW if movement.source is Source.OPENING else self.negative_stock
        if (self.stores[store_id] or default) is NegativeStock.REFUSE and balance < ZERO and delta < ZERO:
            return BelowZero(
                item_id=item_id, store_id=store_id, level=to_canonical(level.quantity), quantity=to_canonical(movement.quantity)
            )
        return None

    def copy(self) -> "Model":
        """Return a model in the same state that goes on by itself."""
        return replace(self, levels=dict(self.levels), entries=list(self.entries), identities=dict(self.identities))


def recorded_type(entry: Entry) -> MovementType:
    """Return the direction that the ledger records: that of a count is what it came to."""
    if entry.movement.source is Source.POS_COUNT:
        return MovementType.REMOVE if entry.delta < ZERO else MovementType.ADD
    return entry.movement.movement_type


def _identity(movement: Movement) -> Identity | None:
    return None if movement.dedupe_key is None else (movement.store_id, movement.dedupe_key, movement.occurrence)


def _said(movement: Movement) -> tuple[str, str, Decimal]:
    return movement.item_id, movement.source.value, movement.quantity
