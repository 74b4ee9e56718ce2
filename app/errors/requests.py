"""A request that is not even looked into: not signed, not authorised, too large, in the wrong place."""

from http import HTTPStatus
from typing import ClassVar

from app.errors.base import PosSyncError, shown


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
            f"The request body is larger than the {limit} bytes that the POS accepts. Send fewer movements per request."
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
