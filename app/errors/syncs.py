"""A full synchronisation that is not even tried."""

from collections.abc import Sequence
from http import HTTPStatus

from app.errors.base import PosSyncError, shown

MOST_NAMED_PROBLEMS = 20


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
