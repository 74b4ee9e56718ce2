"""What several commands print: tables, JSON, times, kept deliveries, and what became of them."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import click
import httpx2

from app.operator.refusals import OperatorResult, Verdict
from app.receiving.body import read_fields
from app.settings import SettingsRefused, load_database_settings
from app.stock.quantity import to_plain
from app.stock.text import DATE_FORMAT, zone_of
from app.storage.duplicates import SuspectedDuplicate
from app.storage.refusals import KeptDelivery
from app.terminal import MIN_COLUMN_WIDTH, column_widths, padded, width_of, wrapped
from app.visible_text import as_seen, to_seen_json

_NOT_SHOWN = {"delivery_key", "after_version", "sent_at_text", "raw_body"}
"""Of kept deliveries: what is for our own look-ups, or shown as `fields` and `body`."""
MAX_SHOWN = 20
"""Of a list that may be as long as a file: what a person reads."""


class InputRefused(click.ClickException):
    """A file that cannot be taken as it is: status 2, as for options."""

    exit_code = 2


def named_problems(problems: Sequence[str]) -> str:
    """The first of `problems`, one on a line, and how many more there are."""
    lines = [f"  {as_seen(problem)}" for problem in problems[:MAX_SHOWN]]
    if len(problems) > MAX_SHOWN:
        lines.append(f"  ... and {len(problems) - MAX_SHOWN} more.")
    return "\n".join(lines)


def show_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    colours: Mapping[tuple[int, int], str | None] = MappingProxyType({}),
) -> None:
    """Print `rows` in columns under `headings`; the columns whose numbers are in `right` are set to the right.

    On a terminal, the texts are wrapped so that a table fits; where it cannot, each row is a list of its own. Elsewhere a row
    is a line. `colours` are those of cells, by (row, column).
    """
    # A till that calls SQL may write what a terminal obeys.
    lines = [[as_seen(text) for text in row] for row in [headings, *rows]]
    widths = [max(width_of(row[column]) for row in lines) for column in range(len(headings))]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns
        fitting = column_widths(widths, room, fixed=right)
        if fitting is None:
            _show_lists(lines[0], lines[1:], room, colours)
            return
        widths = fitting
    for number, row in enumerate(lines, start=-1):
        parts = [wrapped(text, width) for text, width in zip(row, widths, strict=True)]
        for texts in zip_longest(*parts, fillvalue=""):
            cells = [
                _coloured(padded(text, width, is_right=column in right), number, column, colours)
                for column, (text, width) in enumerate(zip(texts, widths, strict=True))
            ]
            click.echo("  ".join(cells).rstrip())


def _show_lists(
    headings: Sequence[str], rows: Sequence[Sequence[str]], room: int, colours: Mapping[tuple[int, int], str | None]
) -> None:
    """Each row as lines of a heading and a value, with an empty line between two rows."""
    width = max(map(width_of, headings))
    for number, row in enumerate(rows):
        if number:
            click.echo()
        for column, (heading, text) in enumerate(zip(headings, row, strict=True)):
            first, *further = wrapped(text, max(room - width - 2, MIN_COLUMN_WIDTH))
            if text:
                click.echo(f"{padded(heading, width)}  {_coloured(first, number, column, colours)}")
            for line in further:
                click.echo(f"{'':{width}}  {line}")


def _coloured(text: str, row: int, column: int, colours: Mapping[tuple[int, int], str | None]) -> str:
    colour = colours.get((row, column))
    return text if colour is None else click.style(text, fg=colour)


def show_json(document: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print `document` for people and programs alike."""
    click.echo(json_text(document))


def json_text(document: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, indent: int | None = 2) -> str:
    """`document` with letters as they are, and with what cannot be seen as escapes; with no `indent` on one line."""
    return to_seen_json(json.dumps(document, ensure_ascii=False, indent=indent))


def end_with_answer(answer: httpx2.Response, *, done: str, as_json: bool = False) -> NoReturn:
    """Print `done` after a 204, or else the answer's own words; ends the command, with status 1 where it is no 204."""
    is_done = answer.status_code == httpx2.codes.NO_CONTENT
    words = None if is_done else _words_of(answer)
    if as_json:
        show_json({"status": answer.status_code, "message": words})
    else:
        click.echo(f"{answer.status_code}: {done if words is None else as_seen(words)}", err=not is_done)
    sys.exit(0 if is_done else 1)


def _words_of(answer: httpx2.Response) -> str:
    try:
        words = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        words = answer.text[:200]
    return " ".join(map(str, words)) if isinstance(words, list) else str(words)


def document_of(row: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the dataclasses that storage lists
    """The fields of a dataclass for JSON: exact numbers as text, times in ISO 8601."""
    return {name: _plain(getattr(row, name)) for name in row.__dataclass_fields__}


def _plain(value: Any) -> Any:  # noqa: ANN401 - a column
    if isinstance(value, Decimal):
        return to_plain(value)
    return value.isoformat() if isinstance(value, datetime) else value


def to_iso(value: Any) -> Any:  # noqa: ANN401 - any part of a document
    """`value` for JSON: times in ISO 8601, in lists and objects too."""
    match value:
        case datetime():
            return value.isoformat(timespec="seconds")
        case dict():
            return {name: to_iso(part) for name, part in value.items()}
        case list():
            return [to_iso(part) for part in value]
        case _:
            return value


def to_shown(moment: datetime | None) -> str | None:
    """A moment to the second, in the time zone TIMEZONE, which it names."""
    if moment is None:
        return None
    return moment.astimezone(_shown_zone()).strftime(f"{DATE_FORMAT} %Z")


def _shown_zone() -> ZoneInfo:
    """Looked up once in a command."""
    context = click.get_current_context(silent=True)
    known = {} if context is None else context.meta
    if "zone" not in known:
        try:
            known["zone"] = zone_of(load_database_settings().timezone)
        except SettingsRefused:
            known["zone"] = zone_of(None)
    zone: ZoneInfo = known["zone"]
    return zone


def kept_document(kept: KeptDelivery | SuspectedDuplicate, *, as_time: Callable[[datetime], Any] = to_iso) -> dict[str, Any]:
    """A kept delivery: its number, what is known of it, what is read in its body now, and the body.

    `as_time` says how a time is written: for a program, or by `to_shown` for a person.
    """
    number, *names = kept.__slots__
    values = {name: getattr(kept, name) for name in names if name not in _NOT_SHOWN}
    shown = {name: as_time(value) if isinstance(value, datetime) else value for name, value in values.items()}
    body = None if kept.pruned_at is not None else shown_body(kept.raw_body)
    return {"number": getattr(kept, number), **shown, "fields": read_fields(kept.raw_body), "body": body}


def show_kept(kept: KeptDelivery | SuspectedDuplicate, *, as_json: bool) -> None:
    """Print one whole."""
    if as_json:
        show_json(kept_document(kept))
        return
    document = kept_document(kept, as_time=to_shown)
    fields = document.pop("fields")
    body = document.pop("body") if kept.pruned_at is None else f"(It was deleted on {kept.pruned_at:%Y-%m-%d}.)"
    document.pop("body", None)
    width = max(map(len, document))
    for name, value in document.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {'-' if value is None else as_seen(str(value))}")
    for name, value in fields.items():
        click.echo(f"  {name:<{width - 2}}  {'-' if value is None else as_seen(str(value))}")
    click.echo(f"body:\n{body}")


def shown_body(raw_body: bytes) -> str:
    """A kept body for a terminal: as text where it is text, without control characters; else as Python shows bytes."""
    try:
        text = raw_body.decode("utf-8")
    except UnicodeDecodeError:
        return repr(raw_body)
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)


def show_results(results: Sequence[OperatorResult], *, lead: str = "", as_json: bool = False) -> NoReturn:
    """Print counts after `lead`, and why each was not applied; ends the command, with status 1 where one was not."""
    failures = [one for one in results if not one.verdict.is_good]
    if as_json:
        show_json([document_of(one) for one in results])
        sys.exit(1 if failures else 0)
    counts = Counter(one.verdict for one in results)
    click.echo(lead + ", ".join(f"{verdict.value}: {counts[verdict]}" for verdict in Verdict if counts[verdict]))
    for one in failures[:MAX_SHOWN]:
        click.echo(as_seen(f"  {one.number}{f' ({one.about})' if one.about else ''}, {one.verdict.value}: {one.message}"))
    if len(failures) > MAX_SHOWN:
        click.echo(f"  ... and {len(failures) - MAX_SHOWN} more")
    sys.exit(1 if failures else 0)


def show_outcomes(outcomes: Mapping[int, str], *, done: str, as_json: bool) -> NoReturn:
    """Print how many were `done`, and what became of each other one; ends the command, with status 1 where there is one."""
    left = {number: outcome for number, outcome in outcomes.items() if outcome != done}
    if as_json:
        show_json([{"number": number, "outcome": outcome} for number, outcome in outcomes.items()])
    else:
        click.echo(f"{done}: {len(outcomes) - len(left)}")
        for number, outcome in left.items():
            click.echo(as_seen(f"  {number}: {outcome}"))
    sys.exit(1 if left else 0)
