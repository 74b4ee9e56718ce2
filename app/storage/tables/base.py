"""What all tables have in common: how constraints are named, and columns and checks that recur."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Column, DateTime, MetaData, Text, func

from app.stock.text import MAX_TEXT_LENGTH

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def id_column(name: str, *, nullable: bool = False) -> Column[str]:
    """A natural key, or a part of one."""
    return Column(name, Text, nullable=nullable)


def id_check(name: str) -> CheckConstraint:
    """Not empty, and no longer than `MAX_TEXT_LENGTH`."""
    return CheckConstraint(f"{name} <> '' AND length({name}) <= {MAX_TEXT_LENGTH}", name=name)


def quantity_check(name: str, *, lowest: str = "> -1e15") -> CheckConstraint:
    """A number that can be held exactly. NaN sorts above every number, so the upper bound keeps it out together with Infinity."""
    return CheckConstraint(f"{name} {lowest} AND {name} < 1e15 AND scale({name}) <= 14", name=name)


def time_column(name: str, *, nullable: bool = False) -> Column[datetime]:
    """A moment; now, unless it may be missing."""
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=None if nullable else func.now())
