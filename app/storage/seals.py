"""Checkpoints and the ledger rows that they seal."""

from collections.abc import AsyncIterator, Mapping, Sequence

from sqlalchemy import RowMapping, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.stock.seal import FIELDS, LEAF_BYTES, Checkpoint, Contents, Span
from app.storage.seal_tables import seal_checkpoint, seal_level

# Level by level along the versions: they have no gap, and are written under the level's lock, so what is committed is whole.
_UNSEALED = text("""
SELECT level.item_id, coalesce(sealed.sealed_version, 0) + 1 AS first_version, level.version - coalesce(sealed.sealed_version, 0)
FROM pos_sync.stock_level AS level
LEFT JOIN pos_sync.seal_level AS sealed ON sealed.store_id = level.store_id AND sealed.item_id = level.item_id
WHERE level.store_id = :store_id AND level.version > coalesce(sealed.sealed_version, 0)
ORDER BY level.item_id LIMIT :limit
""")
_UNSEALED_STORES = text("""
SELECT DISTINCT level.store_id FROM pos_sync.stock_level AS level
LEFT JOIN pos_sync.seal_level AS sealed ON sealed.store_id = level.store_id AND sealed.item_id = level.item_id
WHERE level.version > coalesce(sealed.sealed_version, 0) ORDER BY 1
""")
_ROWS = text(f"""
SELECT {", ".join(f"m.{name}" for name in FIELDS)}
FROM unnest(CAST(:items AS text[]), CAST(:firsts AS bigint[]), CAST(:counts AS integer[])) WITH ORDINALITY
  AS span (item_id, first_version, number, place)
JOIN pos_sync.stock_movement AS m ON m.store_id = :store_id AND m.item_id = span.item_id
  AND m.level_version >= span.first_version AND m.level_version < span.first_version + span.number
ORDER BY span.place, m.level_version
""")  # noqa: S608 - our own words


async def list_unsealed_stores(connection: AsyncConnection) -> list[str]:
    """The stores with rows that no checkpoint seals yet."""
    return list(await connection.scalars(_UNSEALED_STORES))


async def list_unsealed(connection: AsyncConnection, store_id: str, *, max_rows: int) -> list[Span]:
    """Rows of a store that no checkpoint seals yet, at most `max_rows`."""
    spans: list[Span] = []
    room = max_rows
    for item_id, first_version, number in await connection.execute(_UNSEALED, {"store_id": store_id, "limit": max_rows}):
        if room <= 0:
            break
        spans.append(Span(item_id, first_version, min(number, room)))
        room -= spans[-1].count
    return spans


async def read_rows(connection: AsyncConnection, store_id: str, spans: Sequence[Span]) -> list[Mapping[str, object]]:
    """The ledger rows of `spans`, in their order; one that is missing is left out."""
    parameters = {
        "store_id": store_id,
        "items": [span.item_id for span in spans],
        "firsts": [span.first_version for span in spans],
        "counts": [span.count for span in spans],
    }
    return [dict(row) for row in (await connection.execute(_ROWS, parameters)).mappings()]


async def read_last(connection: AsyncConnection, store_id: str) -> Checkpoint | None:
    """The newest checkpoint of a store; None before the first."""
    query = select(seal_checkpoint).where(seal_checkpoint.c.store_id == store_id)
    row = (await connection.execute(query.order_by(seal_checkpoint.c.number.desc()).limit(1))).mappings().one_or_none()
    return None if row is None else _checkpoint(row)


async def list_stores(connection: AsyncConnection) -> list[str]:
    """The stores that have checkpoints."""
    return list(await connection.scalars(select(seal_checkpoint.c.store_id).distinct().order_by(seal_checkpoint.c.store_id)))


async def read_all(connection: AsyncConnection, store_id: str) -> AsyncIterator[Checkpoint]:
    """The checkpoints of a store, the oldest first."""
    query = select(seal_checkpoint).where(seal_checkpoint.c.store_id == store_id).order_by(seal_checkpoint.c.number)
    async with connection.stream(query) as rows:
        async for row in rows.mappings():
            yield _checkpoint(row)


def _checkpoint(row: RowMapping) -> Checkpoint:
    spans = tuple(Span(*span) for span in zip(row["items"], row["first_versions"], row["counts"], strict=True))
    leaves = bytes(row["leaves"])
    return Checkpoint(
        Contents(row["store_id"], row["number"], row["sealed_at"], spans),
        tuple(leaves[start : start + LEAF_BYTES] for start in range(0, len(leaves), LEAF_BYTES)),
        bytes(row["root"]),
        bytes(row["digest"]),
        None if row["signature"] is None else bytes(row["signature"]),
    )


async def put(connection: AsyncConnection, checkpoint: Checkpoint) -> None:
    """Keep a new checkpoint, and that its rows are sealed."""
    contents, spans = checkpoint.contents, checkpoint.contents.spans
    await connection.execute(
        insert(seal_checkpoint).values(
            store_id=contents.store_id,
            number=contents.number,
            sealed_at=contents.sealed_at,
            items=[span.item_id for span in spans],
            first_versions=[span.first_version for span in spans],
            counts=[span.count for span in spans],
            leaves=b"".join(checkpoint.leaves),
            root=checkpoint.root,
            digest=checkpoint.digest,
            signature=checkpoint.signature,
        )
    )
    sealed = {span.item_id: span.first_version + span.count - 1 for span in spans}
    statement = insert(seal_level).values(
        [{"store_id": contents.store_id, "item_id": item, "sealed_version": version} for item, version in sorted(sealed.items())]
    )
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["store_id", "item_id"], set_={"sealed_version": statement.excluded.sealed_version}
        )
    )
