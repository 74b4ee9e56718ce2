"""Kept deliveries and times, as text for a terminal."""

from datetime import UTC, datetime

from app.errors import Refusal
from app.receiving.payload import read_report
from app.stock.quantity import to_plain


def body_fields(raw_body: bytes) -> dict[str, str | None]:
    """What is read in it now; empty where it cannot be read."""
    try:
        movement = read_report(raw_body)
    except Refusal:
        return {}
    return {
        "pos_id": movement.pos_id,
        "movement_type": movement.movement_type.name.lower(),
        "quantity": to_plain(movement.quantity),
        "current_stock": None if movement.reported_stock is None else to_plain(movement.reported_stock),
        "date": movement.date_text,
        "now": movement.sent_at_text,
    }


def body_text(raw_body: bytes) -> str:
    """A kept body for a terminal: as text where it is text, without control characters; else as Python shows bytes."""
    try:
        text = raw_body.decode("utf-8")
    except UnicodeDecodeError:
        return repr(raw_body)
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)


def to_utc(moment: datetime | None) -> str | None:
    """A moment to the second, in UTC."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
