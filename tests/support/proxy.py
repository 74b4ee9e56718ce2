"""A TCP proxy that reads Postgres's protocol, counts its messages in both directions, and cuts the connection at a chosen one."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum

_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102

_FROM_CLIENT = {
    b"Q": "Query",
    b"P": "Parse",
    b"D": "Describe",
    b"B": "Bind",
    b"E": "Execute",
    b"S": "Sync",
    b"H": "Flush",
    b"C": "Close",
    b"X": "Terminate",
    b"p": "Password",
}
_FROM_SERVER = {
    b"R": "Authentication",
    b"S": "ParameterStatus",
    b"K": "BackendKeyData",
    b"Z": "ReadyForQuery",
    b"C": "CommandComplete",
    b"1": "ParseComplete",
    b"2": "BindComplete",
    b"3": "CloseComplete",
    b"t": "ParameterDescription",
    b"T": "RowDescription",
    b"D": "DataRow",
    b"n": "NoData",
    b"s": "PortalSuspended",
    b"E": "ErrorResponse",
    b"N": "NoticeResponse",
    b"v": "NegotiateProtocolVersion",
}


class How(Enum):
    """How a connection dies."""

    RESET = "reset"
    """Both ends are told at once (RST)."""
    SILENT = "silent"
    """Nobody is told: all that either end sends vanishes, as in a network that lost its way."""
    FROZEN = "frozen"
    """The same, for all connections from then on, new ones too: as where the server is stopped by SIGSTOP."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the protocol, as far as it matters here."""

    is_from_client: bool
    name: str
    text: str = ""
    """The SQL of a Query or a Parse, the tag of a CommandComplete."""
    commits: bool = False
    """Whether it makes Postgres commit what a delivery has written: COMMIT, or the end of a write outside a transaction block."""

    def __str__(self) -> str:
        return f"{'>' if self.is_from_client else '<'} {self.name}{f' {self.text}' if self.text else ''}"


class _Connection:
    """One client, the server behind it, and how far it has come since the proxy was armed."""

    def __init__(self, client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.client_reader, self.client = client
        self.server_reader: asyncio.StreamReader
        self.server: asyncio.StreamWriter
        self.passed = 0
        self.is_silent = False
        self.statements: dict[bytes, bytes] = {}
        """SQL by the names under which it was prepared."""
        self.is_in_block = False
        """Whether the last statement left a transaction open."""
        self.has_written = False
        """Whether a write was bound since the last Sync."""
        self.expects_byte = False
        """The server answers a request for encryption with one byte, which has no length."""

    def read_client(self, kind: bytes, payload: bytes) -> Message:
        """What a message of the client is, and whether it commits."""
        text, commits = "", False
        if kind == b"Q":
            text = payload.split(b"\0")[0].decode(errors="replace")
            commits = text == "COMMIT"
        elif kind == b"P":
            name, sql, _ = payload.split(b"\0", 2)
            self.statements[name] = sql
            text = sql.decode(errors="replace").strip()
        elif kind == b"B":
            _, name, _ = payload.split(b"\0", 2)
            self.has_written = self.has_written or b"apply_movements(" in self.statements.get(name, b"")
        elif kind == b"S":
            commits = self.has_written and not self.is_in_block
            self.has_written = False
        return Message(is_from_client=True, name=_FROM_CLIENT.get(kind, repr(kind)), text=text, commits=commits)

    def has_prepared(self, sql: bytes) -> bool:
        """Whether `sql` is part of one of its statements."""
        return not sql or any(sql in statement for statement in self.statements.values())

    def reset(self) -> None:
        raw = self.client.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.transport.abort()
        self.server.transport.abort()


class PostgresProxy:
    """Passes everything, until it is armed: then the message after the `after`-th of a connection is the first that is lost."""

    def __init__(self, upstream: str | tuple[str, int]) -> None:
        self._upstream = upstream
        self._connections: set[_Connection] = set()
        self._after: int | None = None
        self._how = How.RESET
        self._is_repeated = False
        self._is_frozen = False
        self.connections_made = 0
        self._of = b""
        self._passed_on: list[_Connection] = []
        self.passed: list[Message] = []
        """What went through since it was armed, of all connections."""
        self.lost: list[Message] = []
        """The first message that each cut swallowed."""
        self.passed_before_first_loss: list[Message] = []
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["PostgresProxy"]:
        """Listen until the end of the block."""
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            self.reset_all()

    def arm(self, after: int | None, how: How = How.RESET, *, is_repeated: bool = False, of: str = "") -> None:
        """Cut once, or each connection (`is_repeated`), after so many messages from now or from its start; None only counts.

        With `of` only a connection that has prepared a statement with that SQL.
        """
        self._after, self._how, self._is_repeated, self._of = after, how, is_repeated, of.encode()
        self.passed, self._passed_on, self.lost, self.passed_before_first_loss = [], [], [], []
        for connection in self._connections:
            connection.passed = 0

    def passed_of(self, sql: str) -> list[Message]:
        """Of `passed`, what went through on connections that have prepared a statement with `sql`."""
        both = zip(self.passed, self._passed_on, strict=True)
        return [message for message, connection in both if connection.has_prepared(sql.encode())]

    def disarm(self) -> None:
        """Cut no more."""
        self._after = None

    def freeze(self) -> None:
        """From now on it accepts connections and answers none, as a server that was stopped by SIGSTOP does."""
        self._is_frozen = True

    def thaw(self) -> None:
        """Serve again; connections that were made while it was frozen stay silent."""
        self._is_frozen = False

    def reset_all(self) -> None:
        """End every connection, so that the next delivery begins with a new one; the silent ones are ended too."""
        for connection in list(self._connections):
            connection.reset()
        self._connections.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection((reader, writer))
        self.connections_made += 1
        try:
            if isinstance(self._upstream, str):
                connection.server_reader, connection.server = await asyncio.open_unix_connection(self._upstream)
            else:
                connection.server_reader, connection.server = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        self._connections.add(connection)
        ends = [asyncio.create_task(self._pump_client(connection)), asyncio.create_task(self._pump_server(connection))]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if connection.is_silent:
                # The server is not told that the client has gone: it keeps its transaction until its own limits end it.
                await asyncio.wait(ends)
        finally:
            for end in ends:
                end.cancel()
            connection.client.close()
            connection.server.close()
            self._connections.discard(connection)

    async def _pump_client(self, connection: _Connection) -> None:
        is_starting = True
        reader = connection.client_reader
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                kind = b"" if is_starting else await reader.readexactly(1)
                size = await reader.readexactly(4)
                payload = await reader.readexactly(int.from_bytes(size) - 4)
                if is_starting:
                    code = int.from_bytes(payload[:4])
                    is_starting = connection.expects_byte = code in {_SSL_REQUEST, _GSS_REQUEST}
                    message = Message(is_from_client=True, name="SSLRequest" if is_starting else "StartupMessage")
                else:
                    message = connection.read_client(kind, payload)
                if self._passes(connection, message):
                    connection.server.write(kind + size + payload)
                    await connection.server.drain()

    async def _pump_server(self, connection: _Connection) -> None:
        reader = connection.server_reader
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                kind = await reader.readexactly(1)
                if connection.expects_byte:
                    connection.expects_byte = False
                    message, data = Message(is_from_client=False, name="SSL answer"), kind
                else:
                    size = await reader.readexactly(4)
                    payload = await reader.readexactly(int.from_bytes(size) - 4)
                    if kind == b"Z":
                        connection.is_in_block = payload != b"I"
                    text = payload.rstrip(b"\0").decode(errors="replace") if kind == b"C" else ""
                    message = Message(is_from_client=False, name=_FROM_SERVER.get(kind, repr(kind)), text=text)
                    data = kind + size + payload
                if self._passes(connection, message):
                    connection.client.write(data)
                    await connection.client.drain()

    def _passes(self, connection: _Connection, message: Message) -> bool:
        """Whether `message` goes on; where it is the one to be lost, the connection dies with it."""
        if self._is_frozen:
            connection.is_silent = True
        if connection.is_silent:
            return False
        if self._after is None or connection.passed < self._after or not connection.has_prepared(self._of):
            connection.passed += 1
            self.passed.append(message)
            self._passed_on.append(connection)
            return True
        if not self.lost:
            self.passed_before_first_loss = list(self.passed)
        self.lost.append(message)
        if not self._is_repeated:
            self._after = None
        if self._how is not How.RESET:
            connection.is_silent = True
            self._is_frozen = self._how is How.FROZEN
        else:
            connection.reset()
        return False
