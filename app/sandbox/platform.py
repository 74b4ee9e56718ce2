"""What the stand-in mipOS knows and which rules it checks; no HTTP in here.

The messages are those of reference/pos-sync-inventory.md and, for the token calls, of its sibling pages, to the letter.
Where a page lists all possible messages, an answer here carries those that apply.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.stock.movement import MovementType
from app.stock.quantity import EXACT, NotAQuantity, parse_quantity

Body = Mapping[str, Any]
UNAUTHORIZED = "Unauthorized."
POS_WEBHOOK_TYPE = "3"
INVENTORY_WEBHOOK_TYPES = {"1", "2"}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, and what its body is before it is written as JSON; None is an empty body."""

    status: int
    body: Any = None


@dataclass(frozen=True, slots=True)
class Account:
    """The POS's account at mipOS."""

    client_id: str
    client_secret: str = field(repr=False)
    email: str
    password: str = field(repr=False)


@dataclass(slots=True)
class InventorySystem:
    """An inventory system: who owns it, which POS stores it is integrated with, and what it has been told."""

    user_id_tps: str
    stores: set[str]
    has_webhooks: bool = True
    knows_store: bool = True
    """Whether the store has an id of its own in there; without it a sync is refused."""
    stock: dict[str, str] = field(default_factory=dict)
    """external_id -> its own stock: set by a sync, changed by each movement of any origin"""


class Platform:
    """One mipOS with one POS account."""

    def __init__(self, account: Account, *, token_seconds: int = 3600, stores: Mapping[str, str] | None = None) -> None:
        self.account = account
        self.token_seconds = token_seconds
        self.stores = dict(stores or {"1": "1", "2": "2"})
        """mipOS's id of a store -> the POS's id of it"""
        self.systems: dict[str, InventorySystem] = {}
        self.webhooks: dict[str, str] = {}
        self.webhook_types_available = True
        self._token = ""
        self._expires_at = 0

    def to_document(self) -> dict[str, Any]:
        """What has to outlive a restart, since a real mipOS remembers it too."""
        return {
            "token": self._token,
            "expires_at": self._expires_at,
            "webhooks": self.webhooks,
            "stores": self.stores,
            "stock": {system_id: system.stock for system_id, system in self.systems.items()},
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        """Go on from what `to_document` gave; inventory systems that are not known any more are left out."""
        self._token = document["token"]
        self._expires_at = document["expires_at"]
        self.webhooks = dict(document["webhooks"])
        self.stores.update(document.get("stores", {}))
        for system_id, stock in document["stock"].items():
            if system_id in self.systems:
                self.systems[system_id].stock = dict(stock)

    def is_authorized(self, header: str | None) -> bool:
        """Whether `header` is the bearer of the current token, and that has not expired."""
        return bool(self._token) and header == f"Bearer {self._token}" and time.time() < self._expires_at

    def expire_token(self) -> None:
        """Let the current token run out now; the token call then hands back the expired one, as mipOS does."""
        self._expires_at = int(time.time()) - 1

    def fetch_token(self, body: Body) -> Reply:
        """`POST /api/oauth/token`: the current token, a new one only where there never was one."""
        required = ("client_id", "client_secret", "grant_type", "email", "password")
        problems = _required(body, required)
        if "grant_type" not in problems and body.get("grant_type") != "client_credentials":
            problems["grant_type"] = ["The selected grant type is invalid."]
        if problems:
            return Reply(422, problems)
        messages = self._account_messages(body)
        if body["email"] != self.account.email or body["password"] != self.account.password:
            messages.append("Invalid credentials.")
        if messages:
            return _conflict(messages)
        if not self._token:
            self._renew()
        return self._token_reply("Access token.")

    def refresh_token(self, body: Body, authorization: str | None) -> Reply:
        """`POST /api/oauth/token/refresh`: a new token; the old one dies. An expired one may still be refreshed."""
        problems = _required(body, ("client_id", "client_secret", "grant_type", "refresh_token"))
        if "grant_type" not in problems and body.get("grant_type") != "refresh_token":
            problems["grant_type"] = ["The selected grant type is invalid."]
        if problems:
            return Reply(422, problems)
        messages = self._account_messages(body)
        if not self._token:
            messages.append("Token not found with this user.")
        elif authorization != f"Bearer {self._token}":
            messages.append("Authenticated user not found.")
        if self._token and body["refresh_token"] != self._token:
            messages.append("Token Mismatch.")
        if messages:
            return _conflict(messages)
        self._renew()
        return self._token_reply("New access token.")

    def manage_webhook(self, body: Body) -> Reply:
        """`POST .../pos/webhook/manage`: create or change."""
        problems = _required(body, ("type", "url"))
        webhook_type = str(body.get("type"))
        if "type" not in problems and webhook_type not in {POS_WEBHOOK_TYPE, *INVENTORY_WEBHOOK_TYPES}:
            problems["type"] = ["The selected type is invalid."]
        if problems:
            return Reply(422, problems)
        if webhook_type != POS_WEBHOOK_TYPE:
            return _conflict(["Invalid type."])
        self.webhooks[webhook_type] = str(body["url"])
        return Reply(200, {"message": "Webhook successfully created.", "data": None})

    def sync(self, store_id: str, body: Body) -> Reply:
        """`POST .../store/{store_id}/system/sync`: the POS's whole inventory."""
        problems = _required(body, ("items", "inventory_system_id", "units", "suppliers", "user_id_tps"))
        system_id = body.get("inventory_system_id")
        if "inventory_system_id" not in problems and not isinstance(system_id, str):
            problems["inventory_system_id"] = ["The inventory system id must be a string."]
        for name in ("items", "units", "suppliers"):
            if name not in problems and not isinstance(body[name], list):
                problems[name] = [f"The {name} must be an array."]
        if problems:
            return Reply(422, problems)
        messages = self._integration_messages(store_id, str(system_id)) + _inventory_messages(body)
        if messages:
            return _conflict(messages)
        self.systems[str(system_id)].stock = {
            str(item["external_id"]): item["stock"] for item in body["items"] if isinstance(item, dict)
        }
        return Reply(200, {"message": "Synchronization data was sent to the inventory system.", "data": None})

    def update_stock(self, store_id: str, body: Body) -> Reply:
        """`POST .../store/{store_id}/system/stock/update`: one movement of the POS.

        The system applies the quantity to its own stock, as we do with its movements: one that comes twice, or never, shows.
        """
        fields = ("user_id_tps", "inventory_system_id", "current_stock", "quantity", "date", "movement_type")
        problems = _required(body, fields)
        if "movement_type" not in problems and str(body.get("movement_type")) not in {"1", "2"}:
            problems["movement_type"] = ["The selected movement type is invalid."]
        if problems:
            return Reply(422, problems)
        system = self.systems.get(str(body["inventory_system_id"]))
        messages = []
        if system is None or system.user_id_tps != str(body["user_id_tps"]):
            messages.append("This user_id_tps does not own this inventory system.")
        if system is None or self.stores.get(store_id) not in system.stores:
            messages.append("No integration record was found between this user store and the third party system.")
        external_id = str(body.get("external_id"))
        if system is not None and external_id not in system.stock:
            messages.append("External id not found for this store in the inventory system.")
        if not self.webhook_types_available:
            messages.append("This type of webhook is not available.")
        if system is not None and not system.has_webhooks:
            messages.append("This inventory system does not have this type of webhook available.")
        if messages or system is None:
            return _conflict(messages)
        is_removal = int(body["movement_type"]) == MovementType.REMOVE
        system.stock[external_id] = after_movement(system.stock[external_id], str(body["quantity"]), is_removal=is_removal)
        return Reply(204)

    def _renew(self) -> None:
        self._token = secrets.token_hex(20)
        self._expires_at = int(time.time()) + self.token_seconds

    def _token_reply(self, message: str) -> Reply:
        data = {"token": self._token, "token_type": "bearer", "expires_in": str(self._expires_at)}
        return Reply(200, {"message": message, "data": data})

    def _account_messages(self, body: Body) -> list[str]:
        messages = []
        if body["client_id"] != self.account.client_id:
            messages.append("Client id not found with this user.")
        if body["client_secret"] != self.account.client_secret:
            messages.append("Client secret not found with this user.")
        return messages

    def _integration_messages(self, store_id: str, system_id: str) -> list[str]:
        system = self.systems.get(system_id)
        messages = []
        if store_id not in self.stores:
            messages.append("You don't have this store available.")
        if system is None:
            messages.append("The third_party_id does not have an Inventory System role or does not exist.")
        elif self.stores.get(store_id) not in system.stores:
            messages.append("No integration record was found between this user store and the third party system.")
        elif not system.knows_store:
            messages.append("External id not found for this store in the inventory system.")
        return messages


def _required(body: Body, names: tuple[str, ...]) -> dict[str, list[str]]:
    """Laravel's "required": missing, null, an empty string or list."""
    return {name: [f"The {name.replace('_', ' ')} field is required."] for name in names if body.get(name) in (None, "", [], {})}


def _conflict(messages: list[str]) -> Reply:
    return Reply(409, {"message": messages, "data": None})


def _inventory_messages(body: Body) -> list[str]:
    """The rules for items, units and suppliers; each message once, however many entries break it."""
    found: dict[str, None] = {}
    units = [entry for entry in body["units"] if isinstance(entry, dict)]
    suppliers = [entry for entry in body["suppliers"] if isinstance(entry, dict)]
    unit_ids = {str(entry.get("external_id")) for entry in units}
    supplier_ids = {str(entry.get("external_id")) for entry in suppliers}
    for item in (entry for entry in body["items"] if isinstance(entry, dict)):
        for message in _item_messages(item, unit_ids=unit_ids, supplier_ids=supplier_ids):
            found[message] = None
    for noun, entries, names in (
        ("unit", units, {"name": "a name", "short_name": "a short name", "external_id": "an external id"}),
        ("supplier", suppliers, {"name": "a name", "external_id": "an external id"}),
    ):
        for entry in entries:
            for name, words in names.items():
                if entry.get(name) in (None, ""):
                    found[f"The {noun} must have {words}."] = None
    return list(found)


def _item_messages(item: Body, *, unit_ids: set[str], supplier_ids: set[str]) -> list[str]:
    needed = {
        "name": "a name",
        "external_id": "an external id",
        "purchase_unit_external_id": "an purchase unit external id",
        "consumption_unit_external_id": "an consumption unit external id",
        "supplier_external_id": "a supplier external id",
        "cost": "a cost",
        "stock": "a stock",
    }
    messages = [f"The item must have {words}." for name, words in needed.items() if item.get(name) in (None, "")]
    for name, words in {
        "purchase_unit_external_id": "purchase unit external id",
        "consumption_unit_external_id": "consumption unit external id",
        "cost": "cost",
        "stock": "stock",
    }.items():
        if item.get(name) not in (None, "") and not isinstance(item[name], str):
            messages.append(f"The item {words} must be a string.")
    purchase_unit, supplier = item.get("purchase_unit_external_id"), item.get("supplier_external_id")
    if isinstance(purchase_unit, str) and purchase_unit and purchase_unit not in unit_ids:
        messages.append(f"Item purchase unit external id ({purchase_unit}) not found in units array")
    if isinstance(supplier, str) and supplier and supplier not in supplier_ids:
        messages.append(f"Item supplier external id ({supplier}) not found in suppliers array")
    return messages


def after_movement(stock: str, quantity: str, *, is_removal: bool) -> str:
    """An inventory system's own stock after its movement, as it would report it."""
    try:
        before, change = parse_quantity(stock), parse_quantity(quantity)
    except NotAQuantity:
        return stock
    return format(EXACT.subtract(before, change) if is_removal else EXACT.add(before, change), "f")
