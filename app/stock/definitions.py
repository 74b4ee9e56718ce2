"""The definitions of a store's items: what an import changes in them, and which quantities mean something else now. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from app.stock.quantity import ZERO, to_plain
from app.visible_text import shown


@dataclass(frozen=True, slots=True)
class DefinedItem:
    """An item as a store has it: its definition, and what its units and its supplier are called."""

    item_id: str
    name: str
    cost: Decimal
    supplier_id: str
    supplier_name: str
    purchase_unit_id: str
    purchase_unit_names: tuple[str, str]
    """Its name and its short name, as all names of units here."""
    unit_id: str
    """The consumption unit: what a quantity of the item means."""
    unit_names: tuple[str, str]
    folded_names: str
    """The names of the consumption unit without case, as the database compares them."""
    retired_at: datetime | None
    copied_from: str | None
    low_stock: Decimal | None = None
    """Below this, the stock is low; None where nobody set it."""

    @property
    def unit(self) -> str:
        """The consumption unit for people."""
        name, short_name = self.unit_names
        return f"{self.unit_id} ({name}, {short_name})"


@dataclass(frozen=True, slots=True)
class ChangedUnit:
    """An item whose quantities mean something else now."""

    before: DefinedItem
    after: DefinedItem
    is_in_file: bool

    @property
    def item_id(self) -> str:
        """The item."""
        return self.after.item_id

    @property
    def words(self) -> str:
        """Such as: unit changed from kg (Kilogram, kg) to g (Gram, g)."""
        return f"unit changed from {self.before.unit} to {self.after.unit}"

    def problem(self, level: Decimal, *, accepts: bool) -> str | None:
        """Why the change cannot be made while the store has `level` of the item; None where it can.

        With `accepts`, the file's stock is a count in the new unit. Of an item that the file lacks, it says no stock.
        """
        if level == ZERO or (accepts and self.is_in_file):
            return None
        lead = f"Item {shown(self.item_id)}: {self.words}, and the store has {to_plain(level)} in the old one."
        return f"{lead} {self._advice}"

    @property
    def _advice(self) -> str:
        renamed = f"If the unit was only renamed, add --same-unit {self.after.unit_id}."
        is_renamed = self.before.unit_id == self.after.unit_id
        if self.is_in_file:
            advice = "If the file's stock is what there is now, in the new unit, add --accept-unit-change."
            return f"{advice} {renamed}" if is_renamed else advice
        return f"The file lacks this item, so nobody says its stock in the new unit. Put it into the file. {renamed}"


@dataclass(frozen=True, slots=True)
class CatalogChanges:
    """What an import did to a store's items. Of those in the file, each is added, changed, kept or brought back."""

    added: int = 0
    changed: int = 0
    name: int = 0
    cost: int = 0
    unit: int = 0
    supplier: int = 0
    """An item may change in several of these."""
    kept: int = 0
    brought_back: int = 0
    """They were retired, and are not any more."""
    retired: int = 0


def count_changes(
    before: Mapping[str, DefinedItem], after: Mapping[str, DefinedItem], imported: frozenset[str]
) -> CatalogChanges:
    """What became of the items of a store by an import of the items `imported`."""
    counts = dict.fromkeys(CatalogChanges.__slots__, 0)
    for item_id, now in after.items():
        old = before.get(item_id)
        if item_id not in imported:
            counts["retired"] += old is not None and old.retired_at is None and now.retired_at is not None
        elif old is None:
            counts["added"] += 1
        elif old.retired_at is not None:
            counts["brought_back"] += 1
        else:
            differing = {
                "name": old.name != now.name,
                "cost": old.cost != now.cost,
                "unit": _units_of(old) != _units_of(now),
                "supplier": (old.supplier_id, old.supplier_name) != (now.supplier_id, now.supplier_name),
            }
            counts["changed" if any(differing.values()) else "kept"] += 1
            for part, differs in differing.items():
                counts[part] += differs
    return CatalogChanges(**counts)


def changed_units(
    before: Mapping[str, DefinedItem],
    after: Mapping[str, DefinedItem],
    imported: frozenset[str],
    *,
    same_units: frozenset[str] = frozenset(),
) -> Iterator[ChangedUnit]:
    """The items whose consumption unit is another one: by its id, or by its names. `same_units` were only renamed."""
    for item_id, now in after.items():
        old = before.get(item_id)
        if old is None or (old.unit_id, old.folded_names) == (now.unit_id, now.folded_names):
            continue
        if old.unit_id == now.unit_id and now.unit_id in same_units:
            continue
        yield ChangedUnit(old, now, item_id in imported)


def _units_of(one: DefinedItem) -> tuple[object, ...]:
    return one.purchase_unit_id, one.purchase_unit_names, one.unit_id, one.unit_names
