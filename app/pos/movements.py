"""POST /pos/stores/{store_id}/movements: what the POS records goes through the same group commit as deliveries."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Receive, Scope, Send

from app.applying.group_commit import GroupCommit
from app.errors import (
    IdempotencyKeyReused,
    InternalError,
    NoIdempotencyKey,
    NoSuchPage,
    NotAuthorized,
    PosSyncError,
    render,
)
from app.pos.bearer import ApiKey
from app.pos.payload import read_movements
from app.receiving.fields import LONGEST_ID
from app.receiving.middleware import ClientGone, Receipt, refuse, require_plain_json
from app.scope import BODY_ARRIVED
from app.stock.movement import Movement
from app.stock.outcome import Applied, KeyReused, Known, Outcome, Refused
from app.stock.quantity import to_plain
from app.stock.text import fault_in

_PATH = re.compile(r"/pos/stores/([^/]+)/movements")
_KEY = re.compile(rb"[!-~](?:[ -~]{0,253}[!-~])?")


def is_recording(scope: Scope) -> bool:
    """Whether a request is for here."""
    return scope["type"] == "http" and scope["method"] == "POST" and _PATH.fullmatch(scope["path"]) is not None


class PosMovements:
    """The ASGI endpoint. A bare one, as the webhook's: the POS's till waits for it."""

    def __init__(  # noqa: PLR0913 - what the composition root puts together, each by name
        self,
        group_commit: GroupCommit,
        engine: AsyncEngine,
        *,
        api_key: ApiKey,
        receipt: Receipt,
        response_seconds: float,
        on_recorded: Callable[[], None] = lambda: None,
    ) -> None:
        self._group_commit = group_commit
        self._engine = engine
        self._api_key = api_key
        self._receipt = receipt
        self._response_seconds = response_seconds
        self._on_recorded = on_recorded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        try:
            status, body = await self._record(scope, receive)
        except PosSyncError as error:
            await refuse(error, send)
            return
        except ClientGone:
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _record(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        if not self._api_key.is_in(scope["headers"]):
            raise NotAuthorized
        headers = dict(scope["headers"])
        require_plain_json(headers)
        key = headers.get(b"idempotency-key", b"")
        if not _KEY.fullmatch(key):
            raise NoIdempotencyKey
        matched = _PATH.fullmatch(scope["path"])
        if matched is None or fault_in(matched.group(1), longest=LONGEST_ID):
            raise NoSuchPage
        deadline = asyncio.get_running_loop().time() + self._response_seconds
        raw = await self._receipt.read(
            receive,
            declared_length=headers.get(b"content-length"),
            deadline=deadline,
            has_arrived=BODY_ARRIVED in scope,
        )
        idempotency_key = key.decode("ascii")
        movements = read_movements(raw, store_id=matched.group(1), idempotency_key=idempotency_key, now=datetime.now(UTC))
        outcomes = await self._group_commit.submit_ticket(movements, deadline=deadline)
        self._on_recorded()
        return self._answer(movements, outcomes, idempotency_key)

    def _answer(self, movements: Sequence[Movement], outcomes: Sequence[Outcome], key: str) -> tuple[int, bytes]:
        """201 where something was recorded, 200 where all of it was before; else the first refusal, with all that became of each.

        A refusal of one movement does not undo the others: sent again with the same key, once what was wrong is right, only that
        one is recorded.
        """
        entries: list[dict[str, Any]] = []
        first_refusal: PosSyncError | None = None
        for movement, outcome in zip(movements, outcomes, strict=True):
            about: dict[str, Any] = {"item_id": movement.item_id}
            match outcome:
                case Applied(level_version, balance):
                    about |= {"state": "recorded", "stock": to_plain(balance), "level_version": level_version}
                case Known(level_version, balance):
                    about |= {"state": "known", "stock": to_plain(balance), "level_version": level_version}
                case KeyReused():
                    raise IdempotencyKeyReused(key)
                case Refused(error):
                    first_refusal = first_refusal or error
                    about |= {"state": "refused", "reason": error.reason, "message": error.message}
                case _:
                    raise InternalError
            entries.append(about)
        if first_refusal is not None:
            status, _, body = render(first_refusal)
            return status, json.dumps({**json.loads(body), "movements": entries}).encode("ascii")
        is_new = any(isinstance(outcome, Applied) for outcome in outcomes)
        status = HTTPStatus.CREATED if is_new else HTTPStatus.OK
        return int(status), json.dumps({"movements": entries}).encode("ascii")
