"""The exception family: the HTTP status and the reason on the class, a message for a person at the other end, one renderer.

Here are the errors of movements; those of other requests are in `requests`.
"""

import json
from http import HTTPStatus
from typing import ClassVar

from app.visible_text import shown


class PosSyncError(Exception):
    """Something that we say no to; `str()` of it is safe to show to the caller."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    reason: ClassVar[str] = "internal"
    """A short, stable name for metrics, logs and the `refused_delivery` table."""
    headers: ClassVar[dict[str, str]] = {}
    text: ClassVar[str] = ""
    """The message of a class that has only one."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.text)

    @property
    def message(self) -> str:
        """One sentence for a person: what is wrong and what to do."""
        return str(self)


class InternalError(PosSyncError):
    """A bug of ours. Says nothing of its cause to the caller."""

    text = "The POS failed unexpectedly. Send the request again; if it keeps failing, tell the POS operator."


def render(error: PosSyncError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and JSON body of the answer for `error`; the one renderer for routes, middleware and protocol."""
    body = json.dumps({"message": error.message}).encode("ascii")
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in error.headers.items()]
    return int(error.status), headers, body


class Refusal(PosSyncError):
    """A signed delivery that is not applied; it is kept in `refused_delivery`."""


class NotParseable(Refusal):
    """The bytes are not one JSON document in UTF-8 that every parser reads alike."""

    status = HTTPStatus.BAD_REQUEST
    reason = "not_parseable"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The request body cannot be read: {problem}.")
        self.problem = problem


class InvalidField(Refusal):
    """A field is missing or out of its contract; the message names it."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "invalid_field"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"The field {field} {problem}.")
        self.field = field


class UnstorableValue(Refusal):
    """The database refused the data of one movement that our own checks let through."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "unstorable_value"
    text = "The movement holds a value that the POS database does not take. It was kept; tell the POS operator."


class BusinessRefusal(Refusal):
    """The movement is well formed, but this POS, as it is set up now, cannot apply it."""

    status = HTTPStatus.CONFLICT


class OtherPos(BusinessRefusal):
    """The movement names another POS than the configured one."""

    reason = "other_pos"

    def __init__(self, pos_id: str) -> None:
        super().__init__(
            f"This is not the POS with pos_id {shown(pos_id)}. Check which POS the inventory system is connected to."
        )


class UnknownStore(BusinessRefusal):
    """No such store in this POS."""

    reason = "unknown_store"

    def __init__(self, store_id: str) -> None:
        self.store_id = store_id
        super().__init__(f"The POS has no store {shown(store_id)}. Create it in the POS, then send the movement again.")


class UnknownItem(BusinessRefusal):
    """No such item in this POS."""

    reason = "unknown_item"

    def __init__(self, item_id: str) -> None:
        super().__init__(
            f"The POS has no item with external_id {shown(item_id)}. Create it in the POS, then send the movement again."
        )


class NoIntegration(BusinessRefusal):
    """The store is not connected to that inventory system."""

    reason = "no_integration"

    def __init__(self, *, store_id: str, inventory_system_id: str) -> None:
        super().__init__(
            f"Store {shown(store_id)} is not connected to the inventory system {shown(inventory_system_id)}. "
            "Connect it in the POS, then send the movement again."
        )


class IntegrationDisabled(BusinessRefusal):
    """The store is connected to that inventory system, and the connection is switched off."""

    reason = "integration_disabled"

    def __init__(self, *, store_id: str, inventory_system_id: str) -> None:
        super().__init__(
            f"The connection of store {shown(store_id)} to the inventory system {shown(inventory_system_id)} is switched off. "
            "Switch it on in the POS, then send the movement again."
        )


class BelowZero(BusinessRefusal):
    """The store refuses negative stock, and the movement would make it so."""

    reason = "below_zero"

    def __init__(self, *, item_id: str, store_id: str, level: str, quantity: str) -> None:
        super().__init__(
            f"Removing {quantity} would take item {shown(item_id)} in store {shown(store_id)} below zero: "
            f"the POS has {level}. Report the receipt first, then send the movement again."
        )


class BeyondRange(BusinessRefusal):
    """The new level would leave the range that the POS can hold exactly."""

    reason = "beyond_range"

    def __init__(self, *, item_id: str, store_id: str) -> None:
        super().__init__(
            f"The movement would take item {shown(item_id)} in store {shown(store_id)} past the largest stock "
            "that the POS can hold. Check the quantity."
        )


class UnitUnclear(BusinessRefusal):
    """Only other stores have the item, and what its quantities would mean in this one is not clear."""

    reason = "unit_unclear"

    def __init__(self, *, item_id: str, store_id: str) -> None:
        super().__init__(
            f"Store {shown(store_id)} does not have item {shown(item_id)}, and it cannot be copied: the other stores do not "
            "agree on its unit, or it is another one in this store. Import the item in the POS, then send the movement again."
        )


class UnitDiffers(BusinessRefusal):
    """The two stores of a transfer hold the item in different units."""

    reason = "unit_differs"

    def __init__(self, *, item_id: str, store_id: str, other_store_id: str, units: str) -> None:
        super().__init__(
            f"Item {shown(item_id)} has another unit in store {shown(store_id)} than in store {shown(other_store_id)}: {units}. "
            "Record what left the one as waste and what came to the other as a receipt, each in its own unit."
        )


class CountInFuture(BusinessRefusal):
    """A count of a time that has not come."""

    reason = "count_in_future"

    def __init__(self, *, item_id: str, counted_at: str) -> None:
        super().__init__(
            f"The count of item {shown(item_id)} at {counted_at} lies in the future. Check the clock, and count again."
        )


class CountTooOld(BusinessRefusal):
    """A count from longer ago than the rules allow."""

    reason = "count_too_old"

    def __init__(self, *, item_id: str, counted_at: str) -> None:
        super().__init__(
            f"The count of item {shown(item_id)} at {counted_at} is too old to be used. Count again, or raise MAX_COUNT_AGE_DAYS."
        )


class PutAside(BusinessRefusal):
    """An operator has dismissed this very movement."""

    reason = "put_aside"

    def __init__(self, actor: str) -> None:
        super().__init__(
            f"The POS has put this movement aside: {shown(actor)} dismissed it. Ask the POS operator, who can reopen it."
        )


class UnknownRow(BusinessRefusal):
    """No such row in the ledger."""

    status = HTTPStatus.NOT_FOUND
    reason = "unknown_row"

    def __init__(self, *, item_id: str, store_id: str, level_version: int) -> None:
        super().__init__(
            f"The ledger of item {shown(item_id)} in store {shown(store_id)} has no row {level_version}. "
            "`pos-sync ledger` lists the rows."
        )


class NotReversible(BusinessRefusal):
    """A correction or a reversal."""

    reason = "not_reversible"

    def __init__(self, level_version: int) -> None:
        super().__init__(
            f"Row {level_version} is a correction, a reversal or a change of unit, which cannot be reversed. Record a movement "
            "instead."
        )


class TryAgain(PosSyncError):
    """Not decided, or not known to be: sending the same movement again is always safe."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}


class DatabaseAway(TryAgain):
    """Postgres could not be reached, or could not do its work, until the response deadline."""

    reason = "database_away"
    text = "The POS database is not available right now. Send the movement again in a moment; it is applied only once."


class DatabaseNotSetUp(TryAgain):
    """The database answers, but lacks tables or rights that this version needs."""

    reason = "database_not_set_up"
    text = "The POS database is not set up for this version. Tell the POS operator, and send the movement again later."


class OutcomeUnknown(TryAgain):
    """The response deadline passed while the movement was being written."""

    reason = "outcome_unknown"
    text = "The POS could not confirm the movement in time. Send it again in a moment; it is applied only once."


class Overloaded(TryAgain):
    """The waiting line is full."""

    reason = "overloaded"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}
    text = "The POS is receiving more movements than it can take right now. Send this one again in a moment."


class ShuttingDown(TryAgain):
    """The service is stopping, and this delivery had not been received whole."""

    reason = "shutting_down"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1", "Connection": "close"}
    text = "The POS is restarting. Send the movement again in a moment."
