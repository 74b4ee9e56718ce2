"""Hooks of schemathesis: it makes bodies, and mipOS would sign them; and every second request names what is there."""

import itertools
from typing import Any

import requests
import schemathesis

from app.pos.changes import MAX_WAIT
from app.receiving.signature import HEADER, sign
from tests.support.sender import PATH, SECRET

_numbers = itertools.count()


class Signature(requests.auth.AuthBase):
    """Signs the bytes as they are sent."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        request.headers[HEADER] = sign(body if isinstance(body, bytes) else body.encode(), SECRET.encode())
        return request


@schemathesis.hook
def before_call(_context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if case.path == PATH:
        kwargs["auth"] = Signature()
    elif next(_numbers) % 2 and "store_id" in case.path_parameters:
        # No generator guesses the sample's store and item, and without them nothing is ever recorded or found.
        case.path_parameters["store_id"] = "1"
        if isinstance(case.body, dict) and "item_id" in case.body:
            case.body["item_id"] = "avcc123"
    if isinstance(case.query, dict) and _waits(case.query.get("wait")):
        # A wait within its contract is really waited for.
        case.query["wait"] = 0


def _waits(wait: object) -> bool:
    try:
        return 0 < float(str(wait)) <= MAX_WAIT
    except ValueError:
        return False
