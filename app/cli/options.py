"""Options that several commands share."""

import getpass
import os
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

import click

from app.stock.quantity import NotAQuantity, parse_quantity
from app.stock.text import MAX_TEXT_LENGTH, fault_in, parse_moment

MAX_NOTE_LENGTH = 2000
MAX_ROWS = 1_000_000_000
"""That one command can be asked for"""
_F = TypeVar("_F", bound=Callable[..., Any])


class QuantityType(click.ParamType):
    """An exact quantity, never through a float."""

    name = "quantity"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read it, or say what is wrong with it."""
        try:
            return parse_quantity(value)
        except NotAQuantity as problem:
            self.fail(f"{problem}.", param, ctx)


class MomentType(click.ParamType):
    """A time with its offset."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it, or say what is wrong with it."""
        try:
            return parse_moment(value)
        except ValueError as problem:
            self.fail(f"{problem}.", param, ctx)


class TextType(click.ParamType):
    """Text that the database and a terminal can show, of a bounded length."""

    name = "text"

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check it, or say what is wrong with it."""
        if fault := fault_in(value, max_length=self._max_length):
            self.fail(f"{fault}.", param, ctx)
        return value


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return f"uid {os.getuid()}"


actor_option = click.option(
    "--actor", type=TextType(MAX_TEXT_LENGTH), default=_user_name, show_default="your user name", help="Who does this."
)
note_option = click.option("--note", type=TextType(MAX_NOTE_LENGTH), required=True, help="The reason. It is kept.")
store_option = click.option("--store", "store_id", help="Only of this store.")
item_option = click.option("--item", "item_id", help="Only of this item.")
system_option = click.option("--system", "system_id", help="Only of this inventory system.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, MAX_ROWS), default=100, show_default=True, help="At most this many."
)
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")
numbers_argument = click.argument("numbers", type=int, nargs=-1, required=True)


def state_option(states: Iterable[StrEnum]) -> Callable[[_F], _F]:
    """--state, with one of `states` or 'all'."""
    return click.option(
        "--state",
        type=click.Choice([*(state.value for state in states), "all"]),
        default="open",
        show_default=True,
        help="Only in this state; 'all' shows every state.",
    )
