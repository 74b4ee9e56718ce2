"""What the layers tell each other through the ASGI scope of a request."""

from dataclasses import dataclass
from enum import StrEnum

WEBHOOK_PATH = "/webhooks/stock"
"""Where mipOS delivers, behind PUBLIC_URL"""

LINK_PATH = "/ui/link/"
"""What follows logs somebody in: it is in no log."""

DELIVERY_LOG = "pos_sync.delivery_log"
"""The `DeliveryLog` of a delivery; absent for any other request."""

VERIFIED_BODY = "pos_sync.verified_body"
"""The raw bytes of a body whose signature was verified. Absent, there is nothing to act on: fail closed."""

REQUEST_ID = "pos_sync.request_id"
"""By which the log line of a request is found; what is kept of a delivery tells it too."""

PEER = "pos_sync.peer"
"""The (address, port) that is connected. Where a proxy speaks for somebody else, `client` is that other one."""

TRACE = "pos_sync.trace"
"""The traceparent of a call of the POS, where that is traced."""

DEADLINE = "pos_sync.deadline"
"""By when the request has to be answered, in the event loop's time."""

BODY_ARRIVED = "pos_sync.body_arrived"
"""Set where the whole body came together with the head, so that reading it cannot wait."""


class DeliveryOutcome(StrEnum):
    """What became of a delivery, in the log and in the metrics."""

    APPLIED = "applied"
    ALREADY_APPLIED = "already_applied"
    ECHO = "echo"
    """It equals a stock update that we sent to this system."""
    REFUSED = "refused"
    NOT_RECEIVED = "not_received"
    """It was not signed, or did not arrive whole."""
    UNSETTLED = "unsettled"
    """Not known to be applied: the sender must send it again."""
    FAILED = "failed"
    PING = "ping"
    """Not a delivery: our own question whether we are reached, or whether what is signed wrongly is refused."""


@dataclass(slots=True)
class DeliveryLog:
    """What the log line and the metrics say of one delivery; the layers that it passes fill it in."""

    signature: str | None = None
    """The key that verified it, or why none did."""
    inventory_system_id: str | None = None
    store_id: str | None = None
    claimed: tuple[str, str] | None = None
    """The (store, inventory system) that a body names whose signature is wrong: anybody can write it. Never logged."""
    item_id: str | None = None
    movement_type: str | None = None
    quantity: str | None = None
    outcome: DeliveryOutcome = DeliveryOutcome.FAILED
    """Until a layer knows better, what a bug makes of it."""
    balance: str | None = None
    level_version: int | None = None
    is_negative: bool = False
    message: str | None = None
    reason: str | None = None

    def add_to(self, fields: dict[str, object]) -> None:
        """Add what is known to the `fields` of the log line."""
        # One by one: a loop over the names takes a microsecond more, of every delivery.
        if self.signature is not None:
            fields["signature"] = self.signature
        if self.store_id is not None:
            fields["inventory_system_id"] = self.inventory_system_id
            fields["store_id"] = self.store_id
            fields["item_id"] = self.item_id
            fields["movement_type"] = self.movement_type
            fields["quantity"] = self.quantity
        # The word, which every renderer prints alike.
        fields["outcome"] = self.outcome.value
        if self.level_version is not None:
            fields["balance"] = self.balance
            fields["level_version"] = self.level_version
        if self.is_negative:
            fields["is_negative"] = True
        if self.message is not None:
            fields["message"] = self.message
        if self.reason is not None:
            fields["reason"] = self.reason
