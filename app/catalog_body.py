"""Reading a catalogue, from JSON, from CSV tables, and from what a synchronisation is about to send: whole, or refused whole.

The rules are the documented ones of `.../system/sync` (docs/reference/pos-sync-inventory.md, answers 409 and 422), so that what
is imported here can be sent there. They stand here once, and every problem of a catalogue is named at once.
"""

import itertools
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, PlainValidator, ValidationError, ValidationInfo

from app.errors import NotParseable
from app.stock.catalog import LISTS, Catalog, CatalogRefused, Item, Supplier, Unit, to_document
from app.stock.csv_catalog import NUMBERS, CsvCatalog, Origin, split_tables
from app.stock.damage import WrongEncoding, damage_in, decode, parse_number
from app.stock.quantity import require_unsigned
from app.stock.text import MAX_TEXT_LENGTH, fault_in
from app.visible_text import shown
from app.wire import parse_object, problem_of, read_id, read_quantity

_NOUNS = {"items": "Item", "units": "Unit", "suppliers": "Supplier"}
_TEXT = "must be a string"
_NUMBER = 'must be a number such as "12.50"'
_SAVE = 'Save it as UTF-8: in an editor by "Save as", in PowerShell by "Out-File -Encoding utf8".'


class _Context(NamedTuple):
    """What an entry is held against, besides its own rules."""

    known: Mapping[str, set[str] | None]
    """The ids of units and suppliers; None where a list could not be read whole, and says nothing of what it lacks."""
    origin: Origin
    count: Callable[[], None]


def _context(info: ValidationInfo) -> _Context:
    assert isinstance(info.context, _Context)
    return info.context


def _missing(field: str | None) -> str:
    what = _NUMBER if field in NUMBERS else _TEXT
    return f"{what}, and is missing{': mipOS takes no item without it' if field and field.endswith('_external_id') else ''}"


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_TEXT}, and is missing" if value is None else _TEXT)  # noqa: TRY004 - pydantic collects ValueErrors
    if fault := fault_in(value, max_length=MAX_TEXT_LENGTH):
        raise ValueError(fault)
    return value


def _id(value: object, info: ValidationInfo) -> str:
    if value is None:
        raise ValueError(_missing(info.field_name))
    try:
        return _undamaged(read_id(value), _context(info).origin)
    except ValueError as problem:
        # The place of a problem shows the entry's own id.
        is_shown = isinstance(value, str) and value.strip() and info.field_name != "external_id"
        raise ValueError(f"{shown(str(value))} {problem}" if is_shown else str(problem)) from None


def _undamaged(text: str, origin: Origin) -> str:
    if origin.is_file and (damage := damage_in(text)):
        raise ValueError(damage)
    return text


def _number(value: object, info: ValidationInfo) -> Decimal:
    if value is None:
        raise ValueError(_missing(info.field_name))
    if isinstance(value, str):
        return parse_number(value, decimal_comma=_context(info).origin.decimal_comma)
    return read_quantity(value)


def _unsigned(value: object, info: ValidationInfo) -> Decimal:
    return require_unsigned(_number(value, info))


def _item_id(value: object, info: ValidationInfo) -> str:
    _context(info).count()
    return _id(value, info)


def _listed(among: str) -> PlainValidator:
    def read(value: object, info: ValidationInfo) -> str:
        text = _id(value, info)
        known = _context(info).known[among]
        if known is not None and text not in known:
            raise ValueError(f"{shown(text)} is not in the list {among}")
        return text

    return PlainValidator(read)


_Id = Annotated[str, PlainValidator(_id)]
_Name = Annotated[str, PlainValidator(_name)]


class _UnitBody(BaseModel):
    external_id: _Id
    name: _Name
    short_name: _Name


class _SupplierBody(BaseModel):
    external_id: _Id
    name: _Name


class _ItemBody(BaseModel):
    external_id: Annotated[str, PlainValidator(_item_id)]
    name: _Name
    purchase_unit_external_id: Annotated[str, _listed("units")]
    consumption_unit_external_id: Annotated[str, _listed("units")]
    supplier_external_id: Annotated[str, _listed("suppliers")]
    cost: Annotated[Decimal, PlainValidator(_unsigned)]
    stock: Annotated[Decimal, PlainValidator(_number)]


class _CatalogBody(BaseModel):
    inventory_system_id: _Id
    user_id_tps: _Id
    units: list[_UnitBody]
    suppliers: list[_SupplierBody]
    items: list[_ItemBody]


def read_catalog(content: str | bytes) -> Catalog:
    """The catalogue in a file: JSON in the shape of the documented sync body, and numbers may be JSON numbers.

    Raises:
        CatalogRefused: with every problem of the whole file.
    """
    try:
        text = decode(content) if isinstance(content, bytes) else content.removeprefix("\ufeff")
        document = parse_object(text.encode())
    except WrongEncoding as error:
        where = "" if error.line is None else f" in line {error.line}"
        raise CatalogRefused([f"The file cannot be read: it {error}{where}. {_SAVE}"]) from None
    except NotParseable as error:
        raise CatalogRefused([f"The file cannot be read: {error.problem}."]) from None
    return read_document(document, Origin())


def read_tables(
    files: Mapping[str, bytes], *, inventory_system_id: str, user_id_tps: str, decimal_comma: bool = False
) -> CsvCatalog:
    """The catalogue in three CSV tables, as `app.stock.csv_catalog` describes them.

    Raises:
        CatalogRefused: with every problem of all three, each by file, line and column.
    """
    document, origin, ignored = split_tables(
        files, inventory_system_id=inventory_system_id, user_id_tps=user_id_tps, decimal_comma=decimal_comma
    )
    return CsvCatalog(read_document(document, origin), ignored)


def check_for_sync(catalog: Catalog, *, on_item: Callable[[int], None] = lambda _number: None) -> dict[str, Any]:
    """The body of the sync call for `catalog`, held against every documented rule of the call.

    What the database holds need not have come through an import: a POS that shares it writes as it likes. mipOS requires
    that no list is empty (422), which an import may be.

    Raises:
        CatalogRefused: with every problem, in our words; sent, mipOS would refuse it without naming the entry.
    """
    body = to_document(catalog)
    problems = [f"The catalogue has no {name}, and mipOS asks for one at least." for name in LISTS if not body[name]]
    try:
        read_document(body, Origin(subject="The catalogue", is_file=False), on_item=on_item)
    except CatalogRefused as refused:
        problems += refused.problems
    if problems:
        raise CatalogRefused(problems)
    return body


def read_document(
    document: Mapping[str, Any], origin: Origin, *, on_item: Callable[[int], None] = lambda _number: None
) -> Catalog:
    """The catalogue in `document`, which has the shape of the sync body; `on_item` is told the number of each item.

    Raises:
        CatalogRefused: with every problem.
    """
    numbers = itertools.count(1)
    known = {name: None if origin.problems.get(name) else set(_ids(document, name)) for name in LISTS}
    problems = [problem for found in origin.problems.values() for problem in found]
    body: _CatalogBody | None = None
    try:
        body = _CatalogBody.model_validate(document, context=_Context(known, origin, lambda: on_item(next(numbers))))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        problems += [_sentence(fault, document, origin) for fault in faults]
    for name in LISTS:
        problems += _repeated(document, name, origin)
    if problems or body is None:
        raise CatalogRefused(problems)
    return Catalog(
        inventory_system_id=body.inventory_system_id,
        user_id_tps=body.user_id_tps,
        items=tuple(Item(*vars(item).values()) for item in body.items),
        units=tuple(Unit(*vars(unit).values()) for unit in body.units),
        suppliers=tuple(Supplier(*vars(supplier).values()) for supplier in body.suppliers),
    )


def _ids(document: Mapping[str, Any], name: str) -> list[str]:
    """The ids in a list, and "" where an entry has none."""
    entries = document.get(name)
    ids = (
        [entry.get("external_id") if isinstance(entry, dict) else None for entry in entries] if isinstance(entries, list) else []
    )
    return [str(one) if type(one) in (str, int) else "" for one in ids]


def _place(document: Mapping[str, Any], name: str, number: int, origin: Origin) -> str:
    """The words by which a problem names an entry."""
    where = f"{_NOUNS[name]} {number + 1}" if origin.places is None else origin.places[name][number]
    external_id = _ids({name: document[name][number : number + 1]}, name)[0]
    return f"{where} ({shown(external_id)})" if external_id else where


def _sentence(fault: Mapping[str, Any], document: Mapping[str, Any], origin: Origin) -> str:
    problem = problem_of(fault)
    column = "" if origin.places is None else "column "
    match fault["loc"]:
        case (str(name),) if name in LISTS:
            return f"{origin.subject} must have a list {name}."
        case (str(name),):
            return f"{origin.subject}: {name} {_missing_or(fault, problem, name)}."
        case (str(name), int(number)):
            return f"{_place(document, name, number, origin)} {problem}."
        case (str(name), int(number), str(field)):
            return f"{_place(document, name, number, origin)}: {column}{field} {_missing_or(fault, problem, field)}."
    raise AssertionError(fault)


def _missing_or(fault: Mapping[str, Any], problem: str, field: str) -> str:
    return _missing(field) if fault["type"] == "missing" else problem


def _repeated(document: Mapping[str, Any], name: str, origin: Origin) -> list[str]:
    problems: list[str] = []
    first: dict[str, int] = {}
    for number, external_id in enumerate(_ids(document, name)):
        at = first.setdefault(external_id, number)
        if external_id and at != number:
            column, other = "", f"{_NOUNS[name].lower()} {at + 1}"
            if origin.places is not None:
                column, other = "column ", origin.places[name][at].rpartition(", ")[2]
            problems.append(
                f"{_place(document, name, number, origin)}: {column}external_id occurs more than once, first in {other}."
            )
    return problems
