"""The errors of other requests: not signed, not authorised, too large, in the wrong place; and those of reads and syncs."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import ClassVar

from app.errors import DatabaseAway, PosSyncError, ShuttingDown, TryAgain
from app.visible_text import shown

MAX_NAMED_PROBLEMS = 20


class NotHttp(PosSyncError):
    """uvicorn's own 400: the bytes are not HTTP."""

    status = HTTPStatus.BAD_REQUEST
    reason = "not_http"
    text = "The request is not valid HTTP."


class HeadTooLarge(PosSyncError):
    """The request line and headers are over the cap; the parser has none of its own."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    reason = "head_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request's headers are larger than {limit} bytes.")


class TooManyConnections(TryAgain):
    """The worker has as many connections as it may, and none of them is idle."""

    reason = "too_many_connections"
    text = "The POS has too many connections. Send the movement again in a moment."


class NotSigned(PosSyncError):
    """Signature missing, malformed or wrong: one fixed text for all, so that nothing is hinted."""

    status = HTTPStatus.UNAUTHORIZED
    reason = "not_signed"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "X-Signature-Request"}
    text = "The signature in X-Signature-Request does not match the request body."


class BodyTooLarge(PosSyncError):
    """The body is over the cap, by its declared or by its counted size."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    reason = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The request body is larger than the {limit} bytes that the POS accepts. Send fewer movements per request."
        )


class SlowBody(PosSyncError):
    """The body did not arrive within the receipt deadline."""

    status = HTTPStatus.REQUEST_TIMEOUT
    reason = "slow_body"
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}
    text = "The request body did not arrive in time. Send the movement again."


class WrongMediaType(PosSyncError):
    """A content type that is not JSON, or a content encoding: the signature covers plain bytes."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    reason = "wrong_media_type"
    headers: ClassVar[dict[str, str]] = {"Accept-Encoding": "identity"}

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem} Send uncompressed JSON with Content-Type: application/json.")


class UnknownPing(PosSyncError):
    """A signed ping that this database did not send."""

    status = HTTPStatus.CONFLICT
    reason = "unknown_ping"
    text = "This service did not send this ping: another deployment did, with the same client secret."


class NotAuthorized(PosSyncError):
    """No, or a wrong, key of the POS: one fixed text for all."""

    status = HTTPStatus.UNAUTHORIZED
    reason = "not_authorized"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}
    text = "The key is missing or wrong. Send POS_API_KEY as Authorization: Bearer KEY."


class KeyOfAnotherStore(PosSyncError):
    """A key that is good for one store, used for another one: one fixed text for all."""

    status = HTTPStatus.FORBIDDEN
    reason = "key_of_another_store"
    text = "This key is not for this store. Use the store's own key, or POS_API_KEY."


class NoIdempotencyKey(PosSyncError):
    """A movement of the POS without a header that names it."""

    status = HTTPStatus.BAD_REQUEST
    reason = "no_idempotency_key"
    text = (
        "The header Idempotency-Key is missing. Send one that is this movement's own, such as the ticket's number, and the "
        "same one when you send it again."
    )


class InvalidIdempotencyKey(PosSyncError):
    """A header that names no key, or more than one."""

    status = HTTPStatus.BAD_REQUEST
    reason = "invalid_idempotency_key"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The header Idempotency-Key {problem}.")


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
    text = "There is nothing at this address. The webhook is POST /webhooks/stock."


class WrongMethod(PosSyncError):
    """The path exists, the method does not."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    reason = "method_not_allowed"
    text = "This address does not take that method. The header Allow lists those that it takes."


class NoSuchStore(PosSyncError):
    """The stock or the ledger of a store that does not exist was asked for."""

    status = HTTPStatus.NOT_FOUND
    reason = "store_not_found"

    def __init__(self, store_id: str) -> None:
        super().__init__(f"The POS has no store {shown(store_id)}. Make it with pos-sync catalog import.")


class NoSuchItem(PosSyncError):
    """The stock or the ledger of an item that the store does not have was asked for."""

    status = HTTPStatus.NOT_FOUND
    reason = "item_not_found"

    def __init__(self, item_id: str, store_id: str) -> None:
        super().__init__(
            f"Store {shown(store_id)} has no item {shown(item_id)}. GET /pos/stores/ID/stock lists its items. New ones come with "
            "pos-sync catalog import."
        )


class CursorOfAnOlderEpoch(PosSyncError):
    """The change feed began again after a restore, and the reader goes on from before that."""

    status = HTTPStatus.GONE
    reason = "older_epoch"
    text = (
        "The database was restored from a backup, and the change feed began again. Forget what you have of this store, and read "
        "again from after=0."
    )


class NotReadable(DatabaseAway):
    """Postgres could not be reached, or could not answer in time."""

    reason = "not_readable"
    text = "The POS database is not available right now. Ask again in a moment."


class ReadStopped(ShuttingDown):
    """The service is stopping."""

    reason = "read_stopped"
    text = "The POS is restarting. Ask again in a moment."


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
        named = " ".join(problems[:MAX_NAMED_PROBLEMS])
        more = len(problems) - MAX_NAMED_PROBLEMS
        super().__init__(
            f"The catalogue of store {shown(store_id)} breaks mipOS's rules, and nothing was sent: {named}"
            + (f" And {more} more." if more > 0 else "")
        )
        self.problems = problems
