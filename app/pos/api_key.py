"""The POS's keys: Authorization: Bearer KEY, compared in constant time; and the trace of each call behind them."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Depends, Request, Security
from fastapi.security import HTTPBearer

from app.errors import InvalidField, PosSyncError
from app.errors.requests import KeyOfAnotherStore, NotAuthorized
from app.path_id import STORE_PATH
from app.scope import REQUEST_ID, TRACE
from app.tracing import Tracing
from app.wire import errors

_SCHEME = b"bearer"


@dataclass(frozen=True, slots=True)
class KeyScope:
    """What a key is good for."""

    store_id: str | None
    """None is all stores."""

    def require(self, store_ids: Iterable[str]) -> None:
        """Refuse a store that the key is not for.

        Raises:
            KeyOfAnotherStore: it is for another one.
        """
        if self.store_id is not None and any(store_id != self.store_id for store_id in store_ids):
            raise KeyOfAnotherStore


class ApiKey:
    """The keys of the POS, each with the store that it is good for. `on_refused` is called for each that is none of them."""

    def __init__(
        self,
        keys: Mapping[str, str | None],
        *,
        on_refused: Callable[[], None] = lambda: None,
        tracing: Tracing | None = None,
    ) -> None:
        self.tracing = tracing
        self._scopes = [(hashlib.sha256(key.encode()).digest(), KeyScope(store_id)) for key, store_id in keys.items()]
        self._on_refused = on_refused

    def scope_of(self, headers: Iterable[tuple[bytes, bytes]]) -> KeyScope:
        """What the key in `headers` (raw ASGI headers), which must be there once, is good for.

        Raises:
            NotAuthorized: it is missing, or no key of ours.
        """
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, key = (given[0] if len(given) == 1 else b"").partition(b" ")
        # Hashed, so that neither its bytes nor its length decide how long comparing takes; and all are compared.
        digest = hashlib.sha256(key.strip()).digest()
        found = [scope for known, scope in self._scopes if hmac.compare_digest(digest, known)]
        if scheme.lower() != _SCHEME or not found:
            if given:
                self._on_refused()
            raise NotAuthorized
        return found[0]


class _Guard(HTTPBearer):
    """Asks for the key, and is one dependency where a scheme to describe and a function to ask would be two."""

    def __init__(self, api_key: ApiKey) -> None:
        super().__init__(scheme_name="pos", description="POS_API_KEY, or a key of the store (POS_STORE_KEYS).")
        self._api_key = api_key

    async def __call__(self, request: Request) -> None:  # type: ignore[override]
        scope = self._api_key.scope_of(request.scope["headers"])
        store_id = request.path_params.get("store_id")
        if store_id is not None:
            scope.require([store_id])


class _Traced:
    """The span of a call. Behind the guard: only of who has a key is a traceparent taken."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def __call__(self, request: Request) -> AsyncIterator[None]:
        refusal: PosSyncError | None = None
        with self._tracing.call(request.scope["headers"]) as span:
            request.scope[TRACE] = span.traceparent
            span.tell(
                operation=request.scope["route"].operation_id,
                store_id=request.path_params.get("store_id"),
                request_id=request.scope.get(REQUEST_ID),
            )
            try:
                yield
            except PosSyncError as error:
                # An answer as any other, and no failure of the span.
                refusal = error
                span.tell(reason=error.reason)
        if refusal is not None:
            raise refusal


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


def guarded_router(api_key: ApiKey, *, prefix: str = f"/pos{STORE_PATH}") -> APIRouter:
    """A router, usually for what belongs to one store, whose every route asks for the key first."""
    return APIRouter(
        prefix=prefix,
        dependencies=[
            Security(_Guard(api_key)),
            *([] if api_key.tracing is None else [Depends(_Traced(api_key.tracing))]),
            Depends(require_known_parameters),
        ],
        responses=errors({401: "The key of the POS is missing or wrong.", 403: "The key is for another store."}),
        tags=["POS"],
    )
