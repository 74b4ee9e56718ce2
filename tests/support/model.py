"""The model of the ledger: the rules of `apply_movements` in plain Python, to hold the SQL function against.

One movement after the other, each on what those before it left. Nothing here knows of locks, snapshots or batches.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from app.errors import (
    BelowZero,
    BeyondRange,
    IntegrationDisabled,
    NoIntegration,
    NotReversible,
    OtherPos,
    Refusal,
    UnknownItem,
    UnknownRow,
    UnknownStore,
)
from app.stock.movement import (
    Applied,
    Correction,
    KeyReused,
    Known,
    Movement,
    MovementType,
    NotRecorded,
    Outcome,
    Refused,
    Source,
)
from app.stock.quantity import EXACT, ZERO, to_canonical
from app.stock.rules import NegativeStock

BOUND = Decimal(10) ** 15
LevelKey = tuple[str, str]
"""(store_id, item_id)"""
Identity = tuple[str, bytes, int]
"""(store_id, dedupe_key, occurrence)"""
_POS = tuple(source for source in Source if source.startswith("pos_"))
UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Level:
    """The stock of one item in one store; `version` counts the ledger rows behind it."""

    quantity: Decimal = ZERO
    version: int = 0


Moment = tuple[int, datetime | int]
"""(0, a time that was named), or (1, a number that rises) for what happened when it was received: later than every named time."""
Place = tuple[Moment, int, bytes]
"""When, movements before counts, and the key of the count."""


@dataclass(frozen=True)
class Entry:
    """A row of the ledger. The place of a correction is that of the count at which it stands."""

    movement: Movement
    level_version: int
    delta: Decimal
    balance_after: Decimal
    place: Place
    correction_of: "Entry | None" = None
    """The count at which a correction stands."""
    undone: "Entry | None" = None
    """What a reversal takes back."""

    @property
    def is_count(self) -> bool:
        return self.correction_of is None and self.movement.is_count


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

    def apply(self, movements: Sequence[Movement], units: Sequence[Sequence[int]] = ()) -> list[Outcome]:
        """Return the outcomes of one call; `units` name the positions of movements that are applied together or not at all.

        What stands alone comes first. Copies take the outcome of the first of them; applied, the others are known.
        """
        together = {position for unit in units for position in unit}
        outcomes: dict[int, Outcome] = {}
        alone = [position for position in range(len(movements)) if position not in together]
        outcomes.update(zip(alone, self.apply_all([movements[position] for position in alone]), strict=True))
        for unit in units:
            trial = self.copy()
            found = trial.apply_all([movements[position] for position in unit])
            if all(isinstance(outcome, (Applied, Known)) for outcome in found):
                self.levels, self.entries, self.identities = trial.levels, trial.entries, trial.identities
            else:
                found = [NotRecorded() if isinstance(outcome, (Applied, Known)) else outcome for outcome in found]
            outcomes.update(zip(unit, found, strict=True))
        return [outcomes[position] for position in range(len(movements))]

    def apply_all(self, movements: Sequence[Movement]) -> list[Outcome]:
        """Return the outcomes of movements that each stand alone."""
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
                outcome = Known(original[1].level_version, original[1].balance, original[1].correction)
            else:
                outcome = original[1]
            outcomes.append(outcome)
        return outcomes

    def level_at(self, key: LevelKey, at: Moment) -> Decimal:
        """The level as of a time, with all that happened then."""
        return self._before(key, (at, 2, b""))

    def _of(self, key: LevelKey) -> list[Entry]:
        return [entry for entry in self.entries if entry.movement.key == key]

    def _before(self, key: LevelKey, place: Place) -> Decimal:
        later = [entry.delta for entry in self._of(key) if entry.place >= place]
        return EXACT.subtract(self.levels.get(key, Level()).quantity, _sum(later))

    def _counts(self, key: LevelKey) -> list[Entry]:
        """Those that were not reversed, in order of time."""
        undone = [entry.undone for entry in self.entries]
        return sorted((e for e in self._of(key) if e.is_count and e not in undone), key=lambda e: (e.place, e.level_version))

    def _is_for_other_pos(self, movement: Movement) -> bool:
        return self.pos_id is not None and movement.pos_id not in (None, self.pos_id)

    def _apply_one(self, movement: Movement) -> Outcome:  # noqa: C901 - the rules, one after the other
        identity = _identity(movement)
        known = None if identity is None else self.identities.get(identity)
        if known is not None:
            is_same = movement.source not in _POS or _said(movement) == _said(known.movement)
            return self._known(known) if is_same else KeyReused()
        level = self.levels.get(movement.key, Level())
        counts = self._counts(movement.key)
        place, is_before_count = self._place(movement, counts)
        undone: Entry | None = None
        delta = movement.delta
        refusal = self._refusal_of_setup(movement)
        if refusal is not None:
            return Refused(refusal)
        if movement.source is Source.REVERSAL:
            undone = next((e for e in self._of(movement.key) if e.level_version == movement.refers_to), None)
            if undone is None or undone.correction_of is not None or undone.movement.source is Source.REVERSAL:
                return Refused(_irreversible(movement, undone))
            again = next((entry for entry in self._of(movement.key) if entry.undone is undone), None)
            if again is not None:
                return Known(again.level_version, again.balance_after)
            place = undone.place
            taken = [e.delta for e in self._of(movement.key) if e is undone or (undone.is_count and e.correction_of is undone)]
            delta = EXACT.subtract(ZERO, _sum(taken))
            counts = [count for count in counts if count is not undone]
        elif movement.is_count:
            if movement.source is Source.OPENING and counts:
                return Known(0, ZERO)
            delta = EXACT.subtract(movement.delta, self._before(movement.key, place))
        corrected_at = next((count for count in counts if count.place > place), None)
        if movement.source is Source.INVENTORY_SYSTEM or not delta:
            corrected_at = None
        own = EXACT.add(level.quantity, delta)
        balance = own if corrected_at is None else level.quantity
        refusal = self._refusal(movement, level=level, delta=delta, own=own, is_corrected=corrected_at is not None)
        if refusal is not None:
            return Refused(refusal)
        entry = Entry(movement, level.version + 1, delta, own, place, undone=undone)
        self.entries.append(entry)
        correction = None
        if corrected_at is not None:
            amount = EXACT.subtract(ZERO, delta)
            second = Entry(movement, level.version + 2, amount, balance, corrected_at.place, correction_of=corrected_at)
            self.entries.append(second)
            correction = amount, corrected_at
        self.levels[movement.key] = Level(balance, level.version + (1 if correction is None else 2))
        if identity is not None:
            self.identities[identity] = entry
        return Applied(entry.level_version, balance, _correction(correction), is_before_count)

    def _known(self, entry: Entry) -> Known:
        following = next(
            (e for e in self._of(entry.movement.key) if e.level_version == entry.level_version + 1 and e.correction_of), None
        )
        if following is None:
            return Known(entry.level_version, entry.balance_after)
        assert following.correction_of is not None
        return Known(entry.level_version, following.balance_after, _correction((following.delta, following.correction_of)))

    def _place(self, movement: Movement, counts: Sequence[Entry]) -> tuple[Place, bool]:
        told = movement.happened_at or (None if movement.local_at is None else movement.local_at.replace(tzinfo=UTC))
        at: Moment = (1, len(self.entries)) if told is None else (0, told)
        is_before_count = False
        if movement.source is Source.INVENTORY_SYSTEM and told is not None and counts and at <= counts[-1].place[0]:
            counted = counts[-1].place[0][1]
            # A date to the second may mean any moment of it.
            is_before_count = not isinstance(counted, datetime) or told + timedelta(microseconds=999_999) <= counted
            at = (1, len(self.entries))
        return (at, 1, movement.dedupe_key or b"") if movement.is_count else (at, 0, b""), is_before_count

    def _refusal_of_setup(self, movement: Movement) -> Refusal | None:
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
        if item_id not in self.items and movement.source is not Source.REVERSAL:
            return UnknownItem(item_id)
        return None

    def _refusal(self, movement: Movement, *, level: Level, delta: Decimal, own: Decimal, is_corrected: bool) -> Refusal | None:
        store_id, item_id = movement.key
        if not (own.copy_abs() < BOUND and delta.copy_abs() < BOUND):
            return BeyondRange(item_id=item_id, store_id=store_id)
        default = NegativeStock.ALLOW if movement.source is Source.OPENING else self.negative_stock
        if (self.stores[store_id] or default) is not NegativeStock.REFUSE or is_corrected or own >= ZERO:
            return None
        is_told_below = movement.source is not Source.POS_COUNT and movement.delta < ZERO
        if not (is_told_below if movement.is_count else delta < ZERO):
            return None
        return BelowZero(
            item_id=item_id, store_id=store_id, level=to_canonical(level.quantity), quantity=to_canonical(movement.quantity)
        )

    def copy(self) -> "Model":
        """Return a model in the same state that goes on by itself."""
        return replace(self, levels=dict(self.levels), entries=list(self.entries), identities=dict(self.identities))


def recorded_type(entry: Entry) -> MovementType:
    """Return the direction that the ledger records: that of a count, a correction or a reversal is what it came to."""
    if entry.correction_of is not None or entry.is_count or entry.undone is not None:
        return MovementType.REMOVE if entry.delta < ZERO else MovementType.ADD
    return entry.movement.movement_type


def recorded_source(entry: Entry) -> Source:
    """Return the source that the ledger records."""
    return entry.movement.source if entry.correction_of is None else Source.CORRECTION


def _irreversible(movement: Movement, undone: Entry | None) -> Refusal:
    version = movement.refers_to or 0
    if undone is None:
        return UnknownRow(item_id=movement.item_id, store_id=movement.store_id, level_version=version)
    return NotReversible(version)


def _correction(found: tuple[Decimal, Entry] | None) -> Correction | None:
    """The time of a count that named none is not known here: the epoch stands for it."""
    if found is None:
        return None
    amount, count = found
    moment = count.place[0][1]
    return Correction(amount, moment if isinstance(moment, datetime) else UNKNOWN_TIME)


def _identity(movement: Movement) -> Identity | None:
    return None if movement.dedupe_key is None else (movement.store_id, movement.dedupe_key, movement.occurrence)


def _said(movement: Movement) -> tuple[str, str, Decimal, str | None]:
    return movement.item_id, movement.source.value, movement.delta, movement.other_store_id


def _sum(values: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for value in values:
        total = EXACT.add(total, value)
    return total
