"""How an inventory system's `current_stock` is read: as its stock after or before the movement that it came with."""

from decimal import Decimal
from enum import StrEnum

from app.stock.quantity import EXACT


class ReportedStock(StrEnum):
    """Which of the two; the document does not say, so it is a setting (docs/reference/mipos-api.md, "Readings to take")."""

    AFTER = "after"
    BEFORE = "before"


def stock_after(reported: Decimal, delta: Decimal, reading: ReportedStock) -> Decimal:
    """The inventory system's own stock after the movement with which it reported `reported`."""
    return reported if reading is ReportedStock.AFTER else EXACT.add(reported, delta)
