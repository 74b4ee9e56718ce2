"""A verified delivery on its way to the database, and the row that it becomes where it is refused."""

import asyncio
import hashlib
from dataclasses import dataclass

from app.errors import Refusal
from app.stock.applying import Outcome
from app.stock.movement import Movement
from app.storage.refusals import RefusedDelivery


@dataclass(slots=True, eq=False)
class Delivery:
    """A movement to apply, or (with `refusal`) only to be kept as refused.

    What mipOS delivers brings its bytes, for the day when it is looked at again; what the POS itself records has none to keep.
    """

    raw_body: bytes | None
    movement: Movement | None
    refusal: Refusal | None
    deadline: float
    answer: asyncio.Future[Outcome]

    def as_refused(self, refusal: Refusal) -> RefusedDelivery:
        """The row by which the refusal is kept."""
        assert self.raw_body is not None
        movement = self.movement
        identity = None if movement is None else movement.dedupe_key
        return RefusedDelivery(
            fingerprint=identity or hashlib.sha256(self.raw_body).digest(),
            reason=refusal.reason,
            http_status=int(refusal.status),
            message=refusal.message,
            raw_body=self.raw_body,
            store_id=None if movement is None else movement.store_id,
            item_id=None if movement is None else movement.item_id,
            inventory_system_id=None if movement is None else movement.inventory_system_id,
        )
