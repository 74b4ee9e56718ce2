"""The identity by which a movement is applied once, and the time in a reported date."""

import hashlib
from datetime import datetime

from app.stock.text import MAX_MOMENT, MIN_MOMENT

IDENTITY_VERSION = "1"
_DATED = len("2026-11-23")


def moments_in(date_text: str) -> tuple[datetime | None, datetime | None]:
    """(with a zone, without one) the time in a reported date, at most one of them.

    None where the text is no time, or names a day only: midnight is what such a sender writes.
    """
    try:
        moment = datetime.fromisoformat(date_text)
    except ValueError:
        return None, None
    if not (moment.hour or moment.minute or moment.second) or not MIN_MOMENT.year < moment.year < MAX_MOMENT.year:
        return None, None
    return (None, moment) if moment.tzinfo is None else (moment, None)


def dated(date_text: str, identity: bytes) -> bytes:
    """`identity` with its first bytes replaced by those of the date, mostly the day: 32 bytes again, 22 of them the hash's.

    So the movements of one time lie side by side in the ledger's index of identities. At random places, each would touch a
    page of its own, which in a large ledger is mostly not in memory. The ledger has a check that every key is made so.
    """
    return date_text.encode()[:_DATED].ljust(_DATED, b"\0") + identity[_DATED:]


def identity_of(*parts: str) -> bytes:
    """SHA-256 over the length-prefixed parts, so that ("1", "23") is not ("12", "3").

    Source of the choice of parts: docs/reference/mipos-api.md, "Exactly once, without an event id".
    """
    text = "".join([f"{len(part)}:{part}" for part in (IDENTITY_VERSION, *parts)])
    if text.isascii():
        return hashlib.sha256(text.encode()).digest()
    # Lengths are in bytes.
    encoded = [part.encode() for part in (IDENTITY_VERSION, *parts)]
    return hashlib.sha256(b"".join([b"%d:%b" % (len(part), part) for part in encoded])).digest()
