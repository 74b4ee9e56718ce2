"""A small receiver of type 3 with none of our code, which can have the flaws that receivers have."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.sender import SECRET

MAX_BYTES = 65536
SILENCE_SECONDS = 0.5
NAMES = ("store_id", "external_id", "inventory_system_id", "movement_type", "quantity", "current_stock", "date")


class Refused(Exception):
    """4xx."""


class Receiver(ThreadingHTTPServer):
    """Its stock, and what it has applied."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, flaw: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.flaw = flaw
        self.stock: Any = Decimal(0)
        self.applied: set[tuple[Any, ...]] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that closed its connection."""

    def receive(self, body: bytes, signatures: list[str]) -> None:
        signed = body
        if self.flaw == "writes again":
            try:
                signed = json.dumps(json.loads(body), separators=(",", ":")).encode()
            except ValueError:
                raise Refused from None
        right = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        if self.flaw != "accepts unsigned" and signatures != [right]:
            raise Refused
        if self.flaw == "fails on odd input":
            self.apply(json.loads(body))
            return
        try:
            self.apply(json.loads(body.decode(), parse_float=str))
        except (ValueError, RecursionError, KeyError, TypeError, InvalidOperation):
            raise Refused from None

    def apply(self, body: dict[str, Any]) -> None:
        values = [body[name] for name in NAMES]
        if any(type(value) not in (str, int) or value == "" for value in values):
            raise Refused
        if str(body["store_id"]) != "1" or body["external_id"] != "avcc123" or str(body["movement_type"]) not in {"1", "2"}:
            raise Refused
        quantity: Any = Decimal(body["quantity"])
        if not quantity.is_finite() or quantity < 0 or quantity >= 10**15:
            raise Refused
        if self.flaw == "floats":
            quantity, self.stock = float(quantity), float(self.stock)
        key = (*values[:4], quantity, values[5], values[6], body["now"] if self.flaw == "knows by now" else None)
        with self.lock:
            if key in self.applied and self.flaw != "forgets":
                return
            self.applied.add(key)
            self.stock += quantity if str(body["movement_type"]) == "1" else -quantity


class Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    timeout = SILENCE_SECONDS
    server: Receiver  # type: ignore[assignment]

    def do_GET(self) -> None:
        self._answer(200, f"{self.server.stock}".encode())

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > MAX_BYTES:
            self._answer(413, b'{"message": "too large"}')
            return
        body = self.rfile.read(length)
        if len(body) < length:
            return
        message = b"{}" if self.server.flaw == "no message" else b'{"message": "refused"}'
        try:
            self.server.receive(body, self.headers.get_all("X-Signature-Request") or [])
        except Refused:
            self._answer(422, message)
        except Exception:  # noqa: BLE001 - that is the flaw
            self._answer(500, message)
        else:
            self._answer(204, b"ok" if self.server.flaw == "body in 204" else b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing."""


@contextmanager
def receiving(flaw: str | None = None) -> Iterator[Receiver]:
    server = Receiver(flaw)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
