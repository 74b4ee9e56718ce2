"""What several commands print: tables, JSON, times, and kept deliveries."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import click
import httpx2

from app.errors import Refusal
from app.receiving.payload import read_report
from app.stock.quantity import to_plain
from app.stock.text import DATE_FORMAT
from app.storage.refused_deliveries import KeptDelivery
from app.storage.suspicions import SuspectedDuplicate

_NOT_SHOWN = {"delivery_key", "after_version", "sent_at_text", "raw_body"}
"""Of kept deliveries: what is for our own look-ups, or shown as `fields` and `body`."""


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print `rows` in columns under `headings`; the columns whose numbers are in `right` are set to the right."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    for row in [headings, *rows]:
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def show_json(document: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print `document` for people and programs alike."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def end_with_answer(answer: httpx2.Response, *, done: str) -> NoReturn:
    """Print `done` after a 204, or else the answer's own words; ends the command, with status 1 where it is no 204."""
    if answer.status_code == httpx2.codes.NO_CONTENT:
        click.echo(f"204: {done}")
        sys.exit(0)
    try:
        words = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        words = answer.text[:200]
    click.echo(f"{answer.status_code}: {' '.join(words) if isinstance(words, list) else words}", err=True)
    sys.exit(1)


def to_utc(moment: datetime | None) -> str | None:
    """A moment to the second, in UTC."""
    return None if moment is None else moment.astimezone(UTC).strftime(f"{DATE_FORMAT} UTC")


def kept_document(kept: KeptDelivery | SuspectedDuplicate) -> dict[str, Any]:
    """A kept delivery: its number, what is known of it, what is read in its body now, and the body."""
    number, *names = kept.__slots__
    values = {name: getattr(kept, name) for name in names if name not in _NOT_SHOWN}
    shown = {name: to_utc(value) if isinstance(value, datetime) else value for name, value in values.items()}
    return {"number": getattr(kept, number), **shown, "fields": _fields(kept.raw_body), "body": _body(kept.raw_body)}


def _fields(raw_body: bytes) -> dict[str, str | None]:
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


def _body(raw_body: bytes) -> str:
    """A kept body for a terminal: as text where it is text, without control characters; else as Python shows bytes."""
    try:
        text = raw_body.decode("utf-8")
    except UnicodeDecodeError:
        return repr(raw_body)
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)
