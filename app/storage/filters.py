"""Conditions that many lists have in common."""

from collections.abc import Sequence

from sqlalchemy import ARRAY, BigInteger, Column, ColumnElement, Table, any_, literal

TOO_LARGE = 2**63
"""From here on a number is none of a row."""


def matching(table: Table, **wanted: object) -> list[ColumnElement[bool]]:
    """The conditions that each named column of `table` has the value that is wanted; None is any."""
    return [table.c[name] == value for name, value in wanted.items() if value is not None]


def is_among(number: Column[int], numbers: Sequence[int]) -> ColumnElement[bool]:
    """Whether it is one of them. As one parameter: a statement takes no more than 32,767, and a mistake can refuse more rows.

    A number that no row can have is left out: it is nobody's.
    """
    return number == any_(literal([one for one in numbers if abs(one) < TOO_LARGE], ARRAY(BigInteger)))
