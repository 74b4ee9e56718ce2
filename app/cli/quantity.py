"""Exact quantities on the command line."""

from decimal import Decimal

import click

from app.stock.quantity import NotAQuantity, parse_quantity


class QuantityType(click.ParamType):
    """An exact quantity, never through a float."""

    name = "quantity"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read it, or say what is wrong with it."""
        try:
            return parse_quantity(value)
        except NotAQuantity as problem:
            self.fail(f"{problem}.", param, ctx)
