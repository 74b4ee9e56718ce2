"""In which zones the times of a list are shown: each in that of its store, with its offset where there are several."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo

from sqlalchemy.ext.asyncio import AsyncConnection

from app.page.rendering import Zone
from app.settings import Settings
from app.stock.text import zone_of
from app.storage.catalog import Store, list_stores
from app.storage.rules import effective_rules


@dataclass(frozen=True, slots=True)
class Clocks:
    """The stores and their zones. `everywhere` is that of what belongs to no store that is known."""

    stores: list[Store]
    zones: Mapping[str, tzinfo]
    everywhere: tzinfo

    @property
    def is_mixed(self) -> bool:
        """Whether stores stand in several zones."""
        return len({str(zone) for zone in (*self.zones.values(), self.everywhere)}) > 1

    def of(self, store_id: str | None) -> Zone:
        """For one row of a list of all stores."""
        return Zone(self.zones.get(store_id or "", self.everywhere), shows_offset=self.is_mixed)

    def in_list(self, store_id: str | None, *, chosen: str | None) -> Zone:
        """For one row of a list that the filter `chosen` may narrow to one store."""
        return self.alone(chosen) if chosen else self.of(store_id)

    def alone(self, store_id: str | None) -> Zone:
        """For a page about one store, or about all."""
        return Zone(self.zones[store_id]) if store_id in self.zones else Zone(self.everywhere, shows_offset=self.is_mixed)


async def read_clocks(connection: AsyncConnection, settings: Settings) -> Clocks:
    """As they are now."""
    everywhere = (await effective_rules(connection, settings.rules)).timezone
    stores = await list_stores(connection)
    return Clocks(stores, {one.store_id: zone_of(one.timezone or everywhere) for one in stores}, zone_of(everywhere))
