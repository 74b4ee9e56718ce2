"""Driver connections that can be dropped under who uses them, and that put another schema into statements where one is set."""
# ruff: noqa: ANN401, D102 - the driver's own methods, with its arguments

from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from app.storage.durability import raised_synchronous_commit
from app.storage.schema import SCHEMA, SEARCH_PATH, placed


class DriverConnection(asyncpg.Connection):
    """Can be dropped under who uses it, who then meets a lost connection.

    `terminate` is for its user: it takes apart what a statement that is under way still needs.
    """

    def abort(self) -> None:
        """Drop it at once, without a word to the server."""
        self._transport.abort()


class TranslatingConnection(DriverConnection):
    """Puts the schema of the settings into each statement; into each transaction of a pooled connection, what a session has else.

    For both `Database` sets what it does; a usual connection is none of these.
    """

    schema = SCHEMA
    is_pooled = False

    def _placed(self, query: str) -> str:
        return query if self.schema == SCHEMA else placed(query, self.schema)

    async def execute(self, query: str, *args: Any, **named: Any) -> str:
        # Behind a pooler a setting of the session would be another client's, and a startup parameter is refused.
        if self.is_pooled and query.startswith("BEGIN"):
            search_path = f"SET LOCAL search_path = {SEARCH_PATH}"
            query = f"{query.rstrip(';')}; {search_path}; {raised_synchronous_commit(is_local=True)}"
        return str(await super().execute(self._placed(query), *args, **named))

    async def executemany(self, command: str, *args: Any, **named: Any) -> None:
        await super().executemany(self._placed(command), *args, **named)

    async def prepare(self, query: str, **named: Any) -> PreparedStatement:
        return await super().prepare(self._placed(query), **named)

    async def fetch(self, query: str, *args: Any, **named: Any) -> list[Any]:
        return list(await super().fetch(self._placed(query), *args, **named))

    async def fetchrow(self, query: str, *args: Any, **named: Any) -> Any:
        return await super().fetchrow(self._placed(query), *args, **named)

    async def fetchval(self, query: str, *args: Any, **named: Any) -> Any:
        return await super().fetchval(self._placed(query), *args, **named)
