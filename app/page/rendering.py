"""Templates, in the visitor's language; what stands in them is escaped, and made visible where it cannot be seen."""

import gettext
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from app.page.location import location_of
from app.page.sentence import CONTEXT_END, EnglishWords, told
from app.page.visitor import Visitor
from app.stock.movement import Source
from app.stock.quantity import to_canonical
from app.stock.text import DATE_FORMAT
from app.visible_text import as_seen, typed

FOLDER = Path(__file__).parent
LANGUAGES = {"en": "English", "es": "Español"}
LANGUAGE_COOKIE = "pos_sync_language"
NOTHING = "-"
"""Where there is no value"""


def later(words: str) -> str:
    """`words`, which a template translates when it shows them: named here so that they are collected."""
    return words


def later_of(what: str, words: str) -> str:
    """As `later`, of words that are translated otherwise where they are said of `what`."""
    return f"{what}{CONTEXT_END}{words}"


class Zone(NamedTuple):
    """How times are shown: where, and whether each says its offset."""

    zone: tzinfo
    shows_offset: bool = False


SOURCES = {
    Source.INVENTORY_SYSTEM: "reported by",
    Source.OPENING: "opening",
    Source.UNIT_CHANGE: "unit change",
    Source.RECONCILE: "number set",
    Source.CORRECTION: "correction",
    Source.REVERSAL: "taken back",
    Source.POS_SALE: "sale",
    Source.POS_COUNT: "count",
    Source.POS_RECEIPT: "receipt",
    Source.POS_RETURN: "return",
    Source.POS_WASTE: "waste",
    Source.POS_ADJUSTMENT: "adjustment",
    Source.POS_TRANSFER: "transfer",
}
"""What made a ledger row, for people"""
UTC_ZONE = Zone(UTC, shows_offset=True)


def language_of(request: Request) -> str:
    """What the visitor chose, or else what the browser asks for."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return chosen
    for part in request.headers.get("accept-language", "").split(","):
        wanted = part.partition(";")[0].strip().lower()[:2]
        if wanted in LANGUAGES:
            return wanted
    return "en"


@cache
def environment(language: str) -> Environment:
    """Jinja for a language."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        finalize=_finalised,
    )
    made.policies["ext.i18n.trimmed"] = True
    translations = translations_of(language)
    made.install_gettext_translations(translations, newstyle=True)  # type: ignore[attr-defined]
    made.globals.update(_translators(translations))
    made.filters.update(number=number, moment=_moment, local=_local, segment=segment, typed=typed)
    made.filters["said"] = partial(told, translations=translations)
    shared: dict[str, Any] = {
        "sources": {source.value: translations.gettext(words) for source, words in SOURCES.items()},
        "language": language,
        "languages": LANGUAGES,
        "address": address,
    }
    made.globals.update(shared)
    return made


@cache
def translations_of(language: str) -> gettext.NullTranslations:
    """The messages; English ones stand in the templates."""
    file = FOLDER / "languages" / f"{language}.mo"
    if not file.exists():
        return EnglishWords()
    with file.open("rb") as opened:
        found = gettext.GNUTranslations(opened)
    found.add_fallback(EnglishWords())
    return found


def _translators(translations: gettext.NullTranslations) -> dict[str, Any]:
    """Those of Jinja, with the values made visible: `finalize` does not reach what stands in a message."""

    def filled(words: str, values: Mapping[str, Any]) -> Markup:
        return Markup(words) % {name: _finalised(value) for name, value in values.items()}  # noqa: S704 - our own words

    def one(words: str, **values: Any) -> Markup:  # noqa: ANN401 - what a template shows
        return filled(translations.gettext(words), values)

    def several(singular: str, plural: str, num: int, **values: Any) -> Markup:  # noqa: ANN401
        return filled(translations.ngettext(singular, plural, num), {"num": num, **values})

    return {"gettext": one, "ngettext": several}


def number(value: Decimal | None) -> str:
    """Every digit, a point, no grouping: in each language the same, since 1,250 is read as 1.25 or as 1250."""
    return NOTHING if value is None else to_canonical(value)


def segment(value: str) -> str:
    """An id as a part of a path. A browser takes one or two dots alone for a way up, so a blank stands before them."""
    return ("%20" if value in {".", ".."} else "") + quote(value, safe="")


def address(path: str, **filters: object) -> str:
    """A path with its filters, those that are set."""
    kept = {name: value for name, value in filters.items() if value not in (None, "", False)}
    return path + (f"?{urlencode(kept, doseq=True)}" if kept else "")


def _finalised(value: object) -> object:
    return as_seen(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@pass_context
def _local(context: Context, value: datetime) -> str:
    """A time in the zone of the page, as text: for what is shown on hover."""
    where: Zone = context.get("zone") or UTC_ZONE
    return value.astimezone(where.zone).strftime(DATE_FORMAT)


@pass_context
def _moment(context: Context, value: datetime | None, zone: Zone | None = None) -> Markup | str:
    """A time in the zone of its store, with the offset where several zones stand in one list, and else on hover."""
    if value is None:
        return NOTHING
    where: Zone = zone or context.get("zone") or UTC_ZONE
    local = value.astimezone(where.zone)
    offset = local.strftime("%z")
    offset = f" UTC{offset[:3]}:{offset[3:5]}" if offset else ""
    bare = local.strftime(DATE_FORMAT)
    shown = bare + offset if where.shows_offset else bare
    return Markup('<time datetime="{}" title="{}">{}</time>').format(local.isoformat(), bare + offset, shown)


class Renderer:
    """Makes the pages."""

    def page(
        self,
        request: Request,
        template: str,
        *,
        visitor: Visitor | None = None,
        may_act: bool = False,
        status: int = 200,
        **context: Any,  # noqa: ANN401 - what a template shows
    ) -> HTMLResponse:
        """A page of this template; with `visitor`, its navigation too."""
        language = language_of(request)
        made = environment(language).get_template(template)
        shown: Mapping[str, Any] = {
            "visitor": visitor,
            "may_act": may_act,
            "path": request.url.path,
            "here": location_of(request),
            "zone": UTC_ZONE,
            "now": datetime.now(UTC),
            "age": None,
            **context,
        }
        return HTMLResponse(made.render(shown), status_code=status)
