"""Levels + known identities + movements -> outcomes and new levels. Pure: the same for any split into batches."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from app.errors import (
    BelowZero,
    BeyondRange,
    BusinessRefusal,
    IntegrationDisabled,
    NoIntegration,
    Refusal,
    UnknownItem,
    UnknownStore,
)
from app.stock.movement import Movement, Source
from app.stock.quantity import EXACT, ZERO, is_within_range, to_plain

LevelKey = tuple[str, str]
"""(store_id, item_id)"""


class NegativeStock(StrEnum):
    """What a store does with a movement that takes a level below zero.

    Allow is the default: the goods have left the kitchen already, and a refusal only makes the two stocks differ.
    """

    ALLOW = "allow"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Level:
    """The stock of one item in one store; `version` counts the ledger rows behind it."""

    quantity: Decimal
    version: int


NEVER_STOCKED = Level(ZERO, 0)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What storage knew of all that a batch touches, under its locks, or guarded by the ledger's keys when it is written."""

    stores: Mapping[str, NegativeStock]
    items: Collection[str]
    integrations: Mapping[tuple[str, str], bool]
    """(store_id, inventory_system_id) -> enabled"""
    levels: Mapping[LevelKey, Level]
    identities: Collection[tuple[str, bytes]]
    """(store_id, dedupe_key) of movements that are in the ledger"""
    refused: Collection[bytes] = ()
    """dedupe_keys of movements that were refused before, with a record that is still open"""
    busy: Collection[LevelKey] = ()
    """Levels that another session holds, where storage was asked not to wait for them; nothing about them can be decided."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A movement with its place in the ledger."""

    movement: Movement
    level_version: int
    balance_after: Decimal


@dataclass(frozen=True, slots=True)
class Applied:
    """The movement changed the level, by this entry."""

    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class AlreadyApplied:
    """The ledger holds this movement already; nothing changes, and the sender may stop."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The movement changes nothing, and `error` says why."""

    error: Refusal


@dataclass(frozen=True, slots=True)
class Busy:
    """Not decided: another session holds the level. Ask again later."""


Outcome = Applied | AlreadyApplied | Refused | Busy


@dataclass(frozen=True, slots=True)
class Decision:
    """What a batch comes to: one outcome per movement, in order; the rows to write; the levels that changed."""

    outcomes: Sequence[Outcome]
    entries: Sequence[LedgerEntry]
    levels: Mapping[LevelKey, Level]


def decide(movements: Sequence[Movement], knowledge: Knowledge) -> Decision:
    """Decide each movement in order, each on the levels and identities that those before it left."""
    changed: dict[LevelKey, Level] = {}
    seen: set[tuple[str, bytes]] = set()
    outcomes: list[Outcome] = []
    entries: list[LedgerEntry] = []
    for movement in movements:
        identity = None if movement.dedupe_key is None else (movement.store_id, movement.dedupe_key)
        if identity is not None and (identity in seen or identity in knowledge.identities):
            outcomes.append(AlreadyApplied())
            continue
        key = movement.key
        if key in knowledge.busy:
            outcomes.append(Busy())
            continue
        level = changed.get(key) or knowledge.levels.get(key, NEVER_STOCKED)
        if movement.source is Source.POS_COUNT:
            movement = movement.counted_from(level.quantity)  # noqa: PLW2901 - what it comes to here
        balance = EXACT.add(level.quantity, movement.delta)
        refusal = _refusal(movement, level=level, balance=balance, knowledge=knowledge)
        if refusal is not None:
            outcomes.append(Refused(refusal))
            continue
        entry = LedgerEntry(movement, level.version + 1, balance)
        changed[key] = Level(balance, entry.level_version)
        if identity is not None:
            seen.add(identity)
        entries.append(entry)
        outcomes.append(Applied(entry))
    return Decision(outcomes, entries, changed)


def _refusal(movement: Movement, *, level: Level, balance: Decimal, knowledge: Knowledge) -> BusinessRefusal | None:
    store_id, item_id, system_id = movement.store_id, movement.item_id, movement.inventory_system_id
    negative_stock = knowledge.stores.get(store_id)
    if negative_stock is None:
        return UnknownStore(store_id)
    if system_id is not None:
        is_enabled = knowledge.integrations.get((store_id, system_id))
        if is_enabled is None:
            return NoIntegration(store_id=store_id, inventory_system_id=system_id)
        if not is_enabled:
            return IntegrationDisabled(store_id=store_id, inventory_system_id=system_id)
    if item_id not in knowledge.items:
        return UnknownItem(item_id)
    if not is_within_range(balance):
        return BeyondRange(item_id=item_id, store_id=store_id)
    if negative_stock is NegativeStock.REFUSE and balance < ZERO and balance < level.quantity:
        return BelowZero(item_id=item_id, store_id=store_id, level=to_plain(level.quantity), quantity=to_plain(movement.quantity))
    return None
