"""The body of a delivery as the textbook writes it: what the yardsticks read, and not what the service reads."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.receiving.sender import DOCUMENTED_MOVEMENT


class StockMovementBody(BaseModel):
    """The stock movement of one item, as mipOS relays it from an inventory system. Further keys are ignored."""

    model_config = ConfigDict(
        title="StockMovement",
        json_schema_extra={
            "example": dict(DOCUMENTED_MOVEMENT),
        },
    )

    pos_id: str | int = Field(description="ID of the POS.")
    inventory_system_id: str | int = Field(description="ID of the inventory system that reports the movement.")
    current_stock: str | float = Field(
        description="Stock of the item in the inventory system, after the movement. Kept as a report."
    )
    quantity: str | float = Field(description="How much moved: 0 or more, below 10^15, at most 14 decimals.")
    date: str = Field(max_length=64, description="Date of the movement; kept as sent.")
    movement_type: Literal[1, 2, "1", "2"] = Field(description="1 adds to the POS stock, 2 removes from it.")
    external_id: str | int = Field(description="ID of the item in the POS.")
    now: str = Field(max_length=64, description="When mipOS sent this delivery. A retry carries a new one.")
    store_id: str | int = Field(description="ID of the store in the POS.")
