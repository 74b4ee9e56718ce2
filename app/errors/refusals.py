"""A movement that was read and is not applied: unreadable, out of its contract, or nothing that this POS can apply."""

from http import HTTPStatus

from app.errors.base import PosSyncError, shown


class Refusal(PosSyncError):
    """A signed delivery that is not applied; it is kept in `refused_delivery`."""


class NotParseable(Refusal):
    """The bytes are not one JSON document in UTF-8 that every parser reads alike."""

    status = HTTPStatus.BAD_REQUEST
    reason = "not_parseable"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The request body cannot be read: {problem}.")
        self.problem = problem


class InvalidField(Refusal):
    """A field is missing or out of its contract; the message names it."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "invalid_field"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"The field {field} {problem}.")
        self.field = field


class UnstorableValue(Refusal):
    """The database refused the data of one movement that our own checks let through."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "unstorable_value"

    def __init__(self) -> None:
        super().__init__("The movement holds a value that the POS database does not take. It was kept; tell the POS operator.")


class BusinessRefusal(Refusal):
    """The movement is well formed, but this POS, as it is set up now, cannot apply it."""

    status = HTTPStatus.CONFLICT


class OtherPos(BusinessRefusal):
    """The movement names another POS than the configured one."""

    reason = "other_pos"

    def __init__(self, pos_id: str) -> None:
        super().__init__(
            f"This is not the POS with pos_id {shown(pos_id)}. Check which POS the inventory system is connected to."
        )


class UnknownStore(BusinessRefusal):
    """No such store in this POS."""

    reason = "unknown_store"

    def __init__(self, store_id: str) -> None:
        super().__init__(f"The POS has no store {shown(store_id)}. Create it in the POS, then send the movement again.")


class UnknownItem(BusinessRefusal):
    """No such item in this POS."""

    reason = "unknown_item"

    def __init__(self, item_id: str) -> None:
        super().__init__(
            f"The POS has no item with external_id {shown(item_id)}. Create it in the POS, then send the movement again."
        )


class NoIntegration(BusinessRefusal):
    """The store is not connected to that inventory system."""

    reason = "no_integration"

    def __init__(self, *, store_id: str, inventory_system_id: str) -> None:
        super().__init__(
            f"Store {shown(store_id)} is not connected to the inventory system {shown(inventory_system_id)}. "
            "Connect it in the POS, then send the movement again."
        )


class IntegrationDisabled(BusinessRefusal):
    """The store is connected to that inventory system, and the connection is switched off."""

    reason = "integration_disabled"

    def __init__(self, *, store_id: str, inventory_system_id: str) -> None:
        super().__init__(
            f"The connection of store {shown(store_id)} to the inventory system {shown(inventory_system_id)} is switched off. "
            "Switch it on in the POS, then send the movement again."
        )


class BelowZero(BusinessRefusal):
    """The store refuses negative stock, and the movement would make it so."""

    reason = "below_zero"

    def __init__(self, *, item_id: str, store_id: str, level: str, quantity: str) -> None:
        super().__init__(
            f"Removing {quantity} would take item {shown(item_id)} in store {shown(store_id)} below zero: "
            f"the POS has {level}. "
            "Report the receipt first, then send the movement again."
        )


class BeyondRange(BusinessRefusal):
    """The new level would leave the range that the POS can hold exactly."""

    reason = "beyond_range"

    def __init__(self, *, item_id: str, store_id: str) -> None:
        super().__init__(
            f"The movement would take item {shown(item_id)} in store {shown(store_id)} past the largest stock "
            "that the POS can hold. Check the quantity."
        )
