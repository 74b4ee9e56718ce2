"""The exception family: the HTTP status and the reason on the class, a message for a person at the other end.

Every refusal of every layer is rendered by `render`, so that no answer leaves without a `message`.
"""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import ClassVar

LONGEST_SHOWN_VALUE = 80
MOST_NAMED_PROBLEMS = 20


class PosSyncError(Exception):
    """Something that we say no to; `str()` of it is safe to show to the caller."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    reason: ClassVar[str] = "internal"
    """A short, stable name for metrics, logs and the `refused_delivery` table."""
    headers: ClassVar[dict[str, str]] = {}

    @property
    def message(self) -> str:
        """One sentence for a person: what is wrong and what to do."""
        return str(self)


class InternalError(PosSyncError):
    """A bug of ours. Says nothing of its cause to the caller."""

    def __init__(self) -> None:
        super().__init__("The POS failed unexpectedly. Send the movement again; if it keeps failing, tell the POS operator.")


class NotSigned(PosSyncError):
    """Signature missing, malformed or wrong: one fixed text for all, so that nothing is hinted."""

    status = HTTPStatus.UNAUTHORIZED
    reason = "not_signed"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "X-Signature-Request"}

    def __init__(self) -> None:
        super().__init__("The signature in X-Signature-Request does not match the request body.")


class BodyTooLarge(PosSyncError):
    """The body is over the cap, by its declared or by its counted size."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    reason = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The request body is larger than the {limit} bytes that the POS accepts. Send one movement per request."
        )


class SlowBody(PosSyncError):
    """The body did not arrive within the receipt deadline."""

    status = HTTPStatus.REQUEST_TIMEOUT
    reason = "slow_body"
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}

    def __init__(self) -> None:
        super().__init__("The request body did not arrive in time. Send the movement again.")


class WrongMediaType(PosSyncError):
    """A content type that is not JSON, or a content encoding: the signature covers plain bytes."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    reason = "wrong_media_type"
    headers: ClassVar[dict[str, str]] = {"Accept-Encoding": "identity"}

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem} Send uncompressed JSON with Content-Type: application/json.")


class NotAuthorized(PosSyncError):
    """No, or a wrong, key of the POS: one fixed text for all."""

    status = HTTPStatus.UNAUTHORIZED
    reason = "not_authorized"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}

    def __init__(self) -> None:
        super().__init__("The key is missing or wrong. Send POS_API_KEY as Authorization: Bearer KEY.")


class NoIdempotencyKey(PosSyncError):
    """A movement of the POS without a key by which it could be known again."""

    status = HTTPStatus.BAD_REQUEST
    reason = "no_idempotency_key"

    def __init__(self) -> None:
        super().__init__(
            "The header Idempotency-Key is missing, or not 1 to 255 visible ASCII characters. Send one that is this movement's "
            "own, such as the ticket's number, and the same one when you send it again."
        )


class IdempotencyKeyReused(PosSyncError):
    """The same key for another movement."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The Idempotency-Key {shown(key)} was used for another movement; this one was not recorded. Use another key."
        )


class NoSuchPage(PosSyncError):
    """No route has this path."""

    status = HTTPStatus.NOT_FOUND
    reason = "not_found"

    def __init__(self) -> None:
        super().__init__("There is nothing at this address. The webhook is POST /webhooks/stock.")


class WrongMethod(PosSyncError):
    """The path exists, the method does not."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    reason = "method_not_allowed"

    def __init__(self) -> None:
        super().__init__("This address does not take that method. The header Allow lists those that it takes.")


class Refusal(PosSyncError):
    """A signed delivery that is not applied; it is kept in `refused_delivery`."""


class NotParseable(Refusal):
    """The bytes are not one JSON document in UTF-8 that every parser reads alike."""

    status = HTTPStatus.BAD_REQUEST
    reason = "not_parseable"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The request body cannot be read: {problem}.")


class InvalidField(Refusal):
    """A field is missing or out of its contract; the message names it."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "invalid_field"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"The field {field} {problem}.")
        self.field = field
        self._problem = problem

    def within(self, path: str) -> "InvalidField":
        """The same, of a field that lies deeper: `path` is such as "movements[2]."."""
        return InvalidField(path + self.field, self._problem)


class UnstorableValue(Refusal):
    """The database refused the data of one movement that our own checks let through."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "unstorable_value"

    def __init__(self) -> None:
        super().__init__("The movement holds a value that the POS database does not take. It was kept; tell the POS operator.")


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
            f"the POS has {level}. "
            "Report the receipt first, then send the movement again."
        )


class BeyondRange(BusinessRefusal):
    """The new level would leave the range that the POS can hold exactly."""

    reason = "beyond_range"

    def __init__(self, *, item_id: str, store_id: str) -> None:
        super().__init__(
            f"The movement would take item {shown(item_id)} in store {shown(store_id)} past the largest stock "
            "that the POS can hold. Check the quantity."
        )


class TryAgain(PosSyncError):
    """Not decided, or not known to be: sending the same movement again is always safe."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}


class DatabaseAway(TryAgain):
    """Postgres could not be reached, or could not do its work, until the response deadline."""

    reason = "database_away"

    def __init__(self) -> None:
        super().__init__(
            "The POS database is not available right now. Send the movement again in a moment; it is applied only once."
        )


class DatabaseNotSetUp(TryAgain):
    """The database answers, but lacks tables or rights that this version needs."""

    reason = "database_not_set_up"

    def __init__(self) -> None:
        super().__init__(
            "The POS database is not set up for this version. Tell the POS operator, and send the movement again later."
        )


class OutcomeUnknown(TryAgain):
    """The response deadline passed while the movement was being written."""

    reason = "outcome_unknown"

    def __init__(self) -> None:
        super().__init__("The POS could not confirm the movement in time. Send it again in a moment; it is applied only once.")


class Overloaded(TryAgain):
    """The waiting line is full."""

    reason = "overloaded"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}

    def __init__(self) -> None:
        super().__init__("The POS is receiving more movements than it can take right now. Send this one again in a moment.")


class ShuttingDown(TryAgain):
    """The service is stopping, and this delivery had not been received whole."""

    reason = "shutting_down"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1", "Connection": "close"}

    def __init__(self) -> None:
        super().__init__("The POS is restarting. Send the movement again in a moment.")


class CannotSync(PosSyncError):
    """A full synchronisation that is not even tried; the message says what to set up first."""

    status = HTTPStatus.CONFLICT
    reason = "cannot_sync"


class NoStoreToSync(CannotSync):
    """There is no such store."""

    status = HTTPStatus.NOT_FOUND
    reason = "no_such_store"

    def __init__(self, store_id: str) -> None:
        super().__init__(f"The POS has no store {shown(store_id)}. Make it with pos-sync catalog import.")


class SyncUnderWay(CannotSync):
    """The store is being synchronised with the same system, or was just now."""

    reason = "sync_under_way"

    def __init__(self, *, store_id: str, inventory_system_id: str) -> None:
        super().__init__(
            f"Store {shown(store_id)} is being synchronised with {shown(inventory_system_id)} already, or was just now. "
            "Wait for it to end (pos-sync status), then try again."
        )


class UnsendableCatalog(CannotSync):
    """The catalogue breaks a documented rule of the sync call; nothing was sent. `problems` names each bad entry."""

    reason = "unsendable_catalog"

    def __init__(self, store_id: str, problems: Sequence[str]) -> None:
        named = " ".join(problems[:MOST_NAMED_PROBLEMS])
        more = len(problems) - MOST_NAMED_PROBLEMS
        super().__init__(
            f"The catalogue of store {shown(store_id)} breaks mipOS's rules, and nothing was sent: {named}"
            + (f" And {more} more." if more > 0 else "")
        )
        self.problems = problems


def shown(value: str) -> str:
    """`value` quoted for a message: cut to a length that a person reads, without line breaks."""
    cut = value if len(value) <= LONGEST_SHOWN_VALUE else value[: LONGEST_SHOWN_VALUE - 1] + "…"
    return '"' + "".join(character if character.isprintable() else "�" for character in cut) + '"'


def render(error: PosSyncError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and JSON body of the answer for `error`; the one renderer for routes, middleware and protocol."""
    body = json.dumps({"message": error.message}).encode("ascii")
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in error.headers.items()]
    return int(error.status), headers, body
