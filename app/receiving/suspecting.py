"""Keeping deliveries whose identity the ledger holds and which may be movements of their own all the same."""

from collections.abc import Sequence

import asyncpg

from app.receiving.delivery import Delivery
from app.stock.reading import ReportedStock
from app.stock.suspicion import is_maybe_distinct
from app.storage import suspicions
from app.storage.suspicions import Suspect


async def keep_suspects(connection: asyncpg.Connection, repeated: Sequence[Delivery], reading: ReportedStock) -> None:
    """Of `repeated`, which were found already applied, keep those that may be distinct. Runs in the caller's transaction.

    After the batch's own rows were written, since the original may be one of them.
    """
    asked = [(it.movement, it.raw_body) for it in repeated if it.movement is not None and it.raw_body is not None]
    if not asked:
        return
    traces = await suspicions.read_traces(connection, [movement for movement, _ in asked])
    suspects = [
        Suspect(movement, raw_body, trace.occurrences + 1, trace.later.level_version)
        for (movement, raw_body), trace in zip(asked, traces, strict=True)
        if trace.later is not None and is_maybe_distinct(movement, trace, reading)
    ]
    if suspects:
        await suspicions.record(connection, suspects)
