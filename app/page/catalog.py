"""/ui/catalog: the items of a store: their definition, their threshold, and whether they are retired."""

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.operator.item import CannotChangeItem, ItemChange, retire_items, set_item
from app.page.access import Form
from app.page.acting import Act, Check, new_act_id, use, words_of
from app.page.context import PageContext
from app.page.faults import Changed, NothingThere, Ours, WrongField, quoting
from app.page.filters import Filters, text_of
from app.page.item import read_quantity, require_id
from app.page.rendering import Zone, address, later, number
from app.page.sentence import Sentence
from app.page.visitor import Visitor
from app.page.words import of_fault
from app.path_id import STORE_PATH
from app.stock.definitions import DefinedItem
from app.stock.text import MAX_TEXT_LENGTH, fault_in, zone_of
from app.storage.catalog import list_stores
from app.storage.items import known_suppliers, known_units, list_items, list_items_by_name, lock_store
from app.storage.page_lists import PAGE_ROWS
from app.storage.rules import effective_rules
from app.visible_text import as_seen

STATES = ("all", "retired", "kept")
LABELS = {
    "name": later("Name"),
    "cost": later("Cost"),
    "low_stock": later("Low below"),
    "unit": later("Unit of the stock"),
    "purchase_unit": later("Unit of purchases"),
    "supplier": later("Supplier"),
}
"""The fields of the form of an item"""


def catalog_router(page: PageContext) -> APIRouter:  # noqa: C901, PLR0915 - its routes
    """The routes."""
    router = APIRouter()

    @router.get("/catalog")
    async def catalog(request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)]) -> Response:
        async def look(connection: AsyncConnection) -> dict[str, Any]:
            filters = Filters(request, ("store", "q", "state", "after"))
            stores = await list_stores(connection)
            ids = [one.store_id for one in stores]
            store_id = filters.get("store") or (ids[0] if ids else None)
            if store_id is not None and store_id not in ids:
                raise NothingThere("store %(store)s", store=text_of(store_id))
            state = filters.get("state") or "all"
            if state not in STATES:
                raise WrongField("The filter state has to be one of %(states)s", states=", ".join(STATES))
            rows: list[DefinedItem] = []
            if store_id is not None:
                is_retired = None if state == "all" else state == "retired"
                rows = await list_items_by_name(
                    connection,
                    store_id,
                    named=filters.get("q"),
                    is_retired=is_retired,
                    after=filters.get("after"),
                    limit=PAGE_ROWS + 1,
                )
            more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
            everywhere = (await effective_rules(connection, page.settings.rules)).timezone
            zone = next((one.timezone for one in stores if one.store_id == store_id), None) or everywhere
            return {
                "stores": stores,
                "store_id": store_id,
                "filters": filters,
                "state": state,
                "rows": rows,
                "zone": Zone(zone_of(zone)),
                "first": filters.address("/ui/catalog", after=None) if filters.get("after") else None,
                "next": filters.address("/ui/catalog", after=rows[-1].item_id) if more else None,
                "done": await words_of(connection, request.query_params.get("done")),
                "act_id": new_act_id(),
            }

        return await page.show(request, visitor, "catalog.html", look)

    @router.post("/catalog/retire")
    async def confirm_retire(request: Request, form: Annotated[Form, Depends(page.access.order)]) -> Response:
        """Says what it will touch."""
        store_id, retires, item_ids = _chosen(form)

        async def look(connection: AsyncConnection) -> list[DefinedItem]:
            return [one for one in await list_items(connection, store_id, item_ids) if (one.retired_at is None) is retires]

        return page.render(
            request,
            form.visitor,
            "catalog_retire.html",
            store_id=store_id,
            retires=retires,
            rows=await page.reader.read_now(look),
            asked=len(item_ids),
            back=address("/ui/catalog", store=store_id),
            act_id=new_act_id(),
        )

    @router.post("/catalog/retired")
    async def retire(form: Annotated[Form, Depends(page.access.order)]) -> Response:
        store_id, retires, item_ids = _chosen(form)
        words = (
            later("The chosen items were retired. %(items)s")
            if retires
            else later("The chosen items were brought back. %(items)s")
        )
        check = _none_changed(store_id, item_ids, retires=retires)
        said = Sentence(words, {"items": ", ".join(item_ids)})
        act = Act(form, said, location=address("/ui/catalog", store=store_id), check=check)

        async def case() -> None:
            try:
                await retire_items(page.engine, store_id, item_ids, retires=retires, first=act.guard)
            except CannotChangeItem as error:
                raise quoting(error) from error

        return await use(act, case)

    @router.get(f"/catalog{STORE_PATH}/items/{{item_id:id}}")
    async def edit(
        request: Request, visitor: Annotated[Visitor, Depends(page.access.viewer)], store_id: str, item_id: str
    ) -> Response:
        page.access.require_operator(visitor)
        require_id(store_id, item_id)

        async def look(connection: AsyncConnection) -> dict[str, Any]:
            items = await list_items(connection, store_id, [item_id])
            if not items:
                raise NothingThere("item %(item)s in store %(store)s", item=text_of(item_id), store=text_of(store_id))
            return {
                "item": items[0],
                "units": _choices(await known_units(connection, store_id)),
                "suppliers": _choices(await known_suppliers(connection, store_id)),
            }

        found = await page.reader.read_now(look)
        back = address("/ui/catalog", store=store_id)
        return page.render(request, visitor, "catalog_edit.html", store_id=store_id, back=back, act_id=new_act_id(), **found)

    @router.post(f"/catalog{STORE_PATH}/items/{{item_id:id}}")
    async def set_definition(form: Annotated[Form, Depends(page.access.order)], store_id: str, item_id: str) -> Response:
        require_id(store_id, item_id)
        change = _change_of(form)
        if not change.values:
            raise WrongField("Nothing was changed in the form")
        place = address("/ui/catalog", store=store_id, q=item_id)
        fields = [(LABELS[name], f"{form.text(f'was_{name}') or '-'} → {form.text(name) or '-'}") for name in _changed(form)]
        said = Sentence(later("The item was changed. %(item)s: %(fields)s"), {"item": item_id, "fields": fields})
        act = Act(form, said, location=place, check=_as_shown(form, store_id, item_id))

        async def case() -> None:
            try:
                await set_item(page.engine, store_id, item_id, change, actor=act.actor, first=act.guard)
            except CannotChangeItem as error:
                raise quoting(error) from error

        return await use(act, case)

    return router


def _chosen(form: Form) -> tuple[str, bool, list[str]]:
    """(store, whether they are to be retired, the items)."""
    item_ids = list(dict.fromkeys(form.all("item")))
    if not item_ids:
        raise WrongField("Choose at least one item")
    store_id = form.text("store")
    require_id(store_id, *item_ids)
    return store_id, form.text("what") == "retire", item_ids


def _choices(names: Mapping[str, str]) -> list[tuple[str, str]]:
    """(id, words) of units or suppliers, in order of their names; where several have one name, the id stands beside it."""
    having = Counter(names.values())
    found = [(one, name if having[name] == 1 else f"{name} ({one})") for one, name in names.items()]
    return sorted(found, key=lambda one: (one[1].casefold(), one))


def _shown(item: DefinedItem) -> dict[str, str]:
    """What the form of an item shows, by its fields."""
    return {
        "name": item.name,
        "cost": number(item.cost),
        "low_stock": "" if item.low_stock is None else number(item.low_stock),
        "unit": item.unit_id,
        "purchase_unit": item.purchase_unit_id,
        "supplier": item.supplier_id,
    }


def _as_shown(form: Form, store_id: str, item_id: str) -> Check:
    """The item is as the form showed it: nobody else has changed it since."""

    async def check(connection: AsyncConnection) -> None:
        await lock_store(connection, store_id)
        items = await list_items(connection, store_id, [item_id])
        if not items:
            raise Changed("there is no item %(item)s in store %(store)s any more", item=text_of(item_id), store=text_of(store_id))
        for name, now in _shown(items[0]).items():
            # As the page writes it: what cannot be seen is written out.
            if as_seen(now).strip() != form.text(f"was_{name}"):
                raise Changed(
                    "the field %(name)s of item %(item)s was changed by somebody else meanwhile, and is %(now)s now",
                    name=Ours(LABELS[name]),
                    item=text_of(item_id),
                    now=text_of(now) or "-",
                )

    return check


def _none_changed(store_id: str, item_ids: list[str], *, retires: bool) -> Check:
    async def check(connection: AsyncConnection) -> None:
        await lock_store(connection, store_id)
        found = {one.item_id: one for one in await list_items(connection, store_id, item_ids)}
        for item_id in item_ids:
            one = found.get(item_id)
            if one is not None and (one.retired_at is None) is not retires:
                raise (
                    Changed("item %(item)s was retired by somebody else meanwhile", item=text_of(item_id))
                    if retires
                    else Changed("item %(item)s was brought back by somebody else meanwhile", item=text_of(item_id))
                )

    return check


def _changed(form: Form) -> list[str]:
    """The fields that differ from what the form was made with."""
    return [name for name in LABELS if form.text(name) != form.text(f"was_{name}")]


def _change_of(form: Form) -> ItemChange:
    """What differs from what the form was made with; its hidden fields `was_...` say that."""
    changed = _changed(form)

    def new(name: str) -> str | None:
        return form.text(name) if name in changed else None

    name, cost, low = new("name"), new("cost"), new("low_stock")
    if name is not None and (fault := fault_in(name, max_length=MAX_TEXT_LENGTH)):
        raise WrongField("The name %(fault)s", fault=of_fault(fault))
    threshold: Decimal | None = read_quantity(low) if low else None
    return ItemChange(
        name=name,
        cost=None if cost is None else read_quantity(cost),
        supplier_id=new("supplier"),
        purchase_unit_id=new("purchase_unit"),
        consumption_unit_id=new("unit"),
        low_stock=threshold,
        forgets_low_stock=low == "",
    )
