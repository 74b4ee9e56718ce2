"""The tables of seals: how far each level is sealed, and the checkpoints."""

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Column, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from app.storage.tables import metadata, time_column

seal_level = Table(
    "seal_level",
    metadata,
    Column("store_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("sealed_version", BigInteger, nullable=False),
    PrimaryKeyConstraint("store_id", "item_id"),
)

seal_checkpoint = Table(
    "seal_checkpoint",
    metadata,
    Column("store_id", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("sealed_at", time_column("x", nullable=True).type, nullable=False),
    # The rows, in their order: of each item so many, from this version on.
    Column("items", ARRAY(Text), nullable=False),
    Column("first_versions", ARRAY(BigInteger), nullable=False),
    Column("counts", ARRAY(Integer), nullable=False),
    # 16 bytes for each row.
    Column("leaves", LargeBinary, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("signature", LargeBinary),
    PrimaryKeyConstraint("store_id", "number"),
    CheckConstraint("number > 0", name="number"),
)
