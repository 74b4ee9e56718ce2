"""Requests to the stack from outside of its containers: signed deliveries as mipOS makes them, and the calls of a POS."""

import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

PROXY_PORT = 8080
POS_API_PORT = 8081
READY_SECONDS = 60
ITEM = "avcc123"


class Fault(Exception):
    """What does not work; the message says it."""


def call(
    port: int, path: str, *, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """The status and the body of an answer on this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_until_ready() -> None:
    """Until the service answers through the proxy."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            answer = call(PROXY_PORT, "/readyz")
        except OSError as error:
            answer = (0, str(error).encode())
        if answer[0] == http.client.OK:
            return
        if time.monotonic() > deadline:
            raise Fault(f"/readyz through the proxy after {READY_SECONDS} s: {answer}")
        time.sleep(0.2)


def movement(date: str) -> bytes:
    """A movement of store 1 that removes 0.5, told apart by `date`."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    document = {
        "pos_id": "1",
        "inventory_system_id": "4344be8c-c6b9-4c51-88a6-d620144ab406",
        "current_stock": "12.44",
        "quantity": "0.5",
        "date": date,
        "movement_type": 2,
        "external_id": ITEM,
        "now": now,
        "store_id": 1,
    }
    return json.dumps(document).encode()


def deliver(body: bytes, secret: str) -> int:
    """The status that the proxy answers to a signed delivery."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Signature-Request": signature}
    return call(PROXY_PORT, "/webhooks/stock", method="POST", body=body, headers=headers)[0]


def stock(key: str) -> Decimal:
    """The level of the item, as the POS reads it."""
    status, body = call(POS_API_PORT, "/pos/stores/1/stock", headers={"Authorization": f"Bearer {key}"})
    expect("the POS reads the stock", status, http.client.OK)
    return next(Decimal(row["stock"]) for row in json.loads(body)["stock"] if row["item_id"] == ITEM)


def expect(what: str, seen: object, wanted: object) -> None:
    """Say what was seen.

    Raises:
        Fault: it is not what was wanted.
    """
    if seen != wanted:
        raise Fault(f"{what}: {seen!r}, and not {wanted!r}")
    print(f"   {what}: {seen}", flush=True)
