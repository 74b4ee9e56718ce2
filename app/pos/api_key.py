"""The POS's key: Authorization: Bearer KEY, compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, Request, Security
from fastapi.security import HTTPBearer
from starlette.convertors import Convertor, register_url_convertor

from app.errors import InvalidField
from app.errors.requests import NotAuthorized
from app.wire import errors

_SCHEME = b"bearer"


class _IdConvertor(Convertor[str]):
    """An id in a path, decoded once, so that one with a slash, a blank or an accent can be named: paths are matched undecoded."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        return quote(value, safe="")


register_url_convertor("id", _IdConvertor())


class ApiKey:
    """One key."""

    def __init__(self, key: str) -> None:
        self._digest = hashlib.sha256(key.encode()).digest()

    def is_in(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether `headers` (raw ASGI headers) carry it, once."""
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, key = given[0].partition(b" ")
        # Hashed, so that neither its bytes nor its length decide how long comparing takes.
        return scheme.lower() == _SCHEME and hmac.compare_digest(hashlib.sha256(key.strip()).digest(), self._digest)


class _Guard(HTTPBearer):
    """Asks for the key, and is one dependency where a scheme to describe and a function to ask would be two."""

    def __init__(self, api_key: ApiKey) -> None:
        super().__init__(scheme_name="pos", description="POS_API_KEY.")
        self._api_key = api_key

    async def __call__(self, request: Request) -> None:  # type: ignore[override]
        if not self._api_key.is_in(request.scope["headers"]):
            raise NotAuthorized


async def require_known_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not have: ignored, a misspelt filter would return everything.

    Raises:
        InvalidField: it names the parameter.
    """
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InvalidField(name, f"is not a parameter of this address, which takes: {listed}")


def guarded_router(api_key: ApiKey, *, prefix: str = "/pos/stores/{store_id:id}") -> APIRouter:
    """A router, usually for what belongs to one store, whose every route asks for the key first."""
    return APIRouter(
        prefix=prefix,
        dependencies=[Security(_Guard(api_key)), Depends(require_known_parameters)],
        responses=errors({401: "The key of the POS is missing or wrong."}),
        tags=["POS"],
    )
