"""The schema of all tables and functions: `pos_sync`, or the one that DATABASE_SCHEMA names.

Every statement names it as `pos_sync`, so that nothing that anybody has made in another schema is taken for ours. Where the
setting names another one, the connections put that one in its place.
"""

import re
from functools import lru_cache

SCHEMA = "pos_sync"
"""The default, and what statements are written with."""
SEARCH_PATH = "pg_catalog, pg_temp"
"""Of every connection that works: a function or operator that somebody made in `public` is never chosen."""

_NAMED = re.compile(rf"\b{SCHEMA}\.")
MAX_STATEMENTS = 4096


def quoted(schema: str) -> str:
    """The name as SQL writes it."""
    return '"' + schema.replace('"', '""') + '"'


@lru_cache(MAX_STATEMENTS)
def placed(statement: str, schema: str) -> str:
    """`statement` with `schema` in the place of `pos_sync`."""
    return _NAMED.sub(quoted(schema).replace("\\", r"\\") + ".", statement)
