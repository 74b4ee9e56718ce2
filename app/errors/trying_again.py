"""Not decided, or not known to be: sending the same movement again is always safe."""

from http import HTTPStatus
from typing import ClassVar

from app.errors.base import PosSyncError


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
