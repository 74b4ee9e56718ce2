"""A request that asks for something, and moves no stock: it has nothing to "send again"."""

from http import HTTPStatus

from app.errors.base import PosSyncError, shown
from app.errors.trying_again import DatabaseAway, ShuttingDown


class NoSuchStore(PosSyncError):
    """The stock or the ledger of a store that does not exist was asked for."""

    status = HTTPStatus.NOT_FOUND
    reason = "store_not_found"

    def __init__(self, store_id: str) -> None:
        super().__init__(f"The POS has no store {shown(store_id)}. Make it with pos-sync catalog import.")


class NotReadable(DatabaseAway):
    """Postgres could not be reached, or could not answer in time."""

    reason = "not_readable"

    def __init__(self) -> None:
        PosSyncError.__init__(self, "The POS database is not available right now. Ask again in a moment.")


class ReadStopped(ShuttingDown):
    """The service is stopping."""

    reason = "read_stopped"

    def __init__(self) -> None:
        PosSyncError.__init__(self, "The POS is restarting. Ask again in a moment.")
