"""Sends one delivery byte by byte, as no ordinary client would: in pieces, half, with two signatures."""

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from app.conformance.vectors import Request, Signing, Stop
from app.failure import reason_of_call
from app.receiving.signature import HEADER, sign

ANSWER_SECONDS = 60.0
"""Within this time everything is answered or closed."""
MAX_ANSWER_BYTES = 65536
USABLE = ("http", "https")


class UnusableAddress(Exception):
    """It is no http or https address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` is None where the connection ended without an answer, or nothing came in time."""

    status: int | None
    body: bytes = b""
    has_body: bool = False
    fault: str = ""

    @property
    def message(self) -> str | None:
        """The field `message` of a JSON body, if it is a text that says something."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return None
        message = found.get("message") if isinstance(found, dict) else None
        return message if isinstance(message, str) and message.strip() else None


def address_of(url: str) -> SplitResult:
    """The parts of a receiver's address.

    Raises:
        UnusableAddress: it is none.
    """
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in USABLE and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UnusableAddress from None
    if not is_usable or not url.isascii() or not url.isprintable() or " " in url:
        raise UnusableAddress
    return parts


def send(address: SplitResult, request: Request, body: bytes, *, secret: bytes) -> Answer:
    """Send it once over a connection of its own, and return the answer; never raises for what the other side does."""
    connection = _connection(address)
    try:
        _send(connection, address, request, body, secret=secret)
        if request.stop is Stop.CLOSED:
            return Answer(None, fault="the sender left")
        response = connection.getresponse()
        content = response.read(MAX_ANSWER_BYTES)
        # The body of a 204 is read by nobody; what stands on the line is then taken for the next answer.
        announced = response.getheader("Content-Length", "0") != "0" or response.getheader("Transfer-Encoding") is not None
        return Answer(response.status, content, has_body=bool(content) or announced)
    except TimeoutError:
        return Answer(None, fault=f"no answer within {ANSWER_SECONDS:g} seconds")
    except (OSError, http.client.HTTPException) as error:
        return Answer(None, fault=f"the connection ended without an answer ({reason_of_call(error)})")
    finally:
        connection.close()


def _connection(address: SplitResult) -> http.client.HTTPConnection:
    assert address.hostname is not None
    if address.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(address.hostname, address.port, timeout=ANSWER_SECONDS, context=context)
    return http.client.HTTPConnection(address.hostname, address.port, timeout=ANSWER_SECONDS)


def _send(connection: http.client.HTTPConnection, address: SplitResult, request: Request, body: bytes, *, secret: bytes) -> None:
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    connection.putrequest("POST", path, skip_accept_encoding=True)
    connection.putheader("Content-Type", "application/json")
    if request.is_chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    else:
        connection.putheader("Content-Length", str(len(body)))
    for value in signatures_of(request.signing, body, secret):
        connection.putheader(HEADER, value)
    connection.endheaders()
    sent = body[: len(body) // 2] if request.stop else body
    size = max(1, -(-len(sent) // request.pieces))
    try:
        for start in range(0, len(sent), size):
            if start:
                time.sleep(request.pause)
            piece = sent[start : start + size]
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if request.is_chunked else piece)
        if request.is_chunked:
            connection.send(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        # It may have answered before it had all of it.
        return


def signatures_of(signing: Signing, body: bytes, secret: bytes) -> list[str]:
    """The values of the header."""
    valid = sign(body, secret)
    match signing:
        case Signing.NONE:
            return []
        case Signing.EMPTY:
            return [""]
        case Signing.OF_ANOTHER_BODY:
            return [sign(body + b" ", secret)]
        case Signing.OF_ANOTHER_SECRET:
            return [sign(body, secret + b"x")]
        case Signing.CUT:
            return [valid[:-1]]
        case Signing.NOT_ASCII:
            return ["\u00e9" * 64]
        case Signing.TWICE:
            return ["0" * 64, valid]
        case _:
            return [valid]
