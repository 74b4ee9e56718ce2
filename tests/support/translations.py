"""The Spanish words of the page: collects what there is to translate, and compiles what was translated.

    python -m tests.support.translations

Messages are the English words in app/page; es.po holds their translations, for people to edit, and es.mo is made of it.
"""

import io
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from app.page import rendering
from app.page.words import named_words

PAGE = Path(rendering.__file__).parent
PO, MO = PAGE / "languages" / "es.po", PAGE / "languages" / "es.mo"
DATED = (b'"POT-Creation-Date', b'"PO-Revision-Date', b'"Generated-By')
METHODS = [("templates/**.html", "jinja2"), ("**.py", "python")]
OPTIONS = {"templates/**.html": {"trimmed": "true", "newstyle_gettext": "true"}}
DATE = datetime(2026, 1, 1, tzinfo=UTC)
"""In the place of the true ones, so that the same words make the same file"""
KEYWORDS = {
    "_": None,
    "gettext": None,
    "ngettext": (1, 2),
    "plurals": (1, 2),
    "said": None,
    "later": None,
    "later_of": ((1, "c"), 2),
    "NotAllowed": None,
    "FormRefused": None,
    "WrongField": None,
    "Changed": None,
    "NothingThere": None,
    "shown": (3,),
}


def template() -> Catalog:
    """All messages that the page has now."""
    found = Catalog(project="mipos-pos-sync", charset="utf-8")
    for _file, _line, message, comments, context in extract_from_dir(PAGE, METHODS, OPTIONS, keywords=KEYWORDS):
        found.add(message, auto_comments=comments, context=context)
    for words in named_words():
        found.add(words)
    return found


def translated() -> Catalog:
    """The kept translations, and each message that has none yet."""
    with PO.open("rb") as kept:
        catalog = read_po(kept, locale="es")
    catalog.update(template(), no_fuzzy_matching=True)
    catalog.obsolete.clear()
    return catalog


def as_po(catalog: Catalog) -> bytes:
    out = io.BytesIO()
    # Without the places, which change with every line.
    write_po(out, catalog, no_location=True, sort_output=True, omit_header=False, width=120)
    lines = out.getvalue().split(b"\n")
    return b"\n".join(
        line for line in lines if not line.startswith((b'"POT-Creation-Date', b'"PO-Revision-Date', b'"Generated-By'))
    )


def as_mo(catalog: Catalog) -> bytes:
    catalog.creation_date = catalog.revision_date = DATE
    out = io.BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def main() -> None:
    PO.parent.mkdir(exist_ok=True)
    if not PO.exists():
        PO.write_bytes(as_po(Catalog(locale="es", project="mipos-pos-sync", charset="utf-8")))
    catalog = translated()
    PO.write_bytes(as_po(catalog))
    with PO.open("rb") as kept:
        MO.write_bytes(as_mo(read_po(kept, locale="es")))
    missing = [one.id for one in catalog if one.id and not all(_texts(one.string))]
    print(f"{len(catalog)} messages, {len(missing)} without a translation")  # noqa: T201 - a command


def _texts(string: object) -> list[str]:
    return [string or ""] if string is None or isinstance(string, str) else list(string)  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
