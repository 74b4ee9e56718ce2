"""The only place that connects to Postgres: a pooled engine for everything, and bare driver connections for the hot path."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.certificate import tls_fault
from app.database_address import Address
from app.database_host import Host
from app.failure import UNKNOWN
from app.storage.driver import DriverConnection, TranslatingConnection
from app.storage.durability import raised_synchronous_commit
from app.storage.schema import SCHEMA, SEARCH_PATH

CONNECT_SECONDS = 2.0
"""For one try at one server"""
STAGGER_SECONDS = 0.5
"""After this time without an answer the next server is tried as well."""
POOL_SIZE = 4
APPLICATION_NAME, COMMAND_NAME = "pos-sync", "pos-sync-command"
"""How the service and its commands call themselves in pg_stat_activity"""
_POOLER = "PgBouncer answers there. Set DATABASE_POOLER=transaction"
_OWN_SESSION = f"""DO $$ BEGIN
  IF pg_catalog.current_setting('search_path') <> '{SEARCH_PATH}' THEN RAISE 'no session of its own'; END IF;
END $$"""
"""SQL: fails where the session is not as it was asked for: PgBouncer may be told to swallow the parameters of a connection."""
_SCHEMA_OPTION = "pos_sync_schema"


class ServerUnreachable(OSError):
    """None of the servers answers as it should; the message names each, and why."""


class WrongServer(ServerUnreachable):
    """The server is a standby where one that writes was asked for, or the other way round."""


@dataclass(frozen=True, slots=True)
class _Server:
    """One address of a host."""

    host: Host
    ip: str

    def __str__(self) -> str:
        return str(self.host) if self.ip == self.host.name else f"{self.host} ({self.ip})"


_Try = asyncio.Task[tuple[DriverConnection, _Server]]


class Database:
    """One database, on whichever of its servers serves, and the connections to it that are open.

    Behind PgBouncer in transaction mode (`is_pooled`) both statement caches are off and no startup parameter is sent: it refuses
    or mixes up either.
    """

    def __init__(
        self, address: Address, *, is_pooled: bool = False, schema: str = SCHEMA, application_name: str = APPLICATION_NAME
    ) -> None:
        self.address = address
        self.is_pooled = is_pooled
        self.schema = schema
        self.application_name = application_name
        self._last_good: _Server | None = None
        self._open: WeakSet[DriverConnection] = WeakSet()

    def at(self, address: Address) -> "Database":
        """The same database on other servers."""
        return Database(address, is_pooled=self.is_pooled, schema=self.schema, application_name=self.application_name)

    def create_engine(self) -> AsyncEngine:
        """A small pool: readiness, catalogue and commands use it, deliveries do not."""
        arguments: dict[str, Any] = {"async_creator_fn": self._connect_for_pool}
        if self.is_pooled:
            arguments["prepared_statement_cache_size"] = 0
        return create_async_engine(
            "postgresql+asyncpg://",
            isolation_level="READ COMMITTED",
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=CONNECT_SECONDS,
            connect_args=arguments,
            execution_options={_SCHEMA_OPTION: self.schema},
        )

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[AsyncEngine]:
        """An engine until the block ends."""
        engine = self.create_engine()
        try:
            yield engine
        finally:
            await engine.dispose()

    async def _connect_for_pool(self, *_arguments: Any, **_named: Any) -> asyncpg.Connection:  # noqa: ANN401 - SQLAlchemy's
        connection = await self.connect()
        if not self.is_pooled:
            try:
                await connection.execute(f"{raised_synchronous_commit(is_local=False)}; {_OWN_SESSION}")
            except asyncpg.RaiseError as error:
                connection.terminate()
                raise ServerUnreachable(f"{', '.join(map(str, self.address.hosts))}: {_POOLER}") from error
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def connect(self) -> asyncpg.Connection:
        """A driver connection of its own, outside the pool; the caller closes it.

        The server that served last is tried first. Each has its own time, and a silent one holds up the others only for a
        moment: the first that serves wins.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError: as the driver does, where there is one server.
            ServerUnreachable: no server of several answers.
        """
        servers = await self._servers()
        connection, server = await self._try(servers[0]) if len(servers) == 1 else await self._first_of(servers)
        self._last_good = server
        self._open.add(connection)
        return connection

    def abandon(self, *, but: asyncpg.Connection | None = None) -> None:
        """Drop every connection at once, without a word to the server: what waits for an answer fails, and connects again."""
        for connection in list(self._open):
            if connection is not but:
                self._open.discard(connection)
                connection.abort()

    async def _servers(self) -> list[_Server]:
        """Each address of each host, looked up each time: a name may lead elsewhere by now."""
        hosts = self.address.hosts
        found: list[_Server] = []
        fault: OSError | None = None
        for host in hosts:
            try:
                found += [_Server(host, ip) for ip in await _lookup(host)]
            except OSError as error:
                fault = ServerUnreachable(f"the name {host.name} cannot be looked up")
                fault.__cause__ = error
        if not found:
            assert fault is not None
            raise fault
        return sorted(dict.fromkeys(found), key=lambda server: server != self._last_good)

    async def _try(self, server: _Server) -> tuple[DriverConnection, _Server]:
        arguments = self.address.driver_arguments()
        if self.is_pooled:
            arguments["statement_cache_size"] = 0
        else:
            settings = {
                "application_name": self.application_name,
                **arguments.get("server_settings", {}),
                "search_path": SEARCH_PATH,
            }
            arguments["server_settings"] = settings
        is_translating = self.is_pooled or self.schema != SCHEMA
        try:
            connection = await asyncpg.connect(
                host=server.ip,
                port=server.host.port,
                ssl=self.address.tls(server.host),
                timeout=CONNECT_SECONDS,
                connection_class=TranslatingConnection if is_translating else DriverConnection,
                **arguments,
            )
        except asyncpg.TargetServerAttributeNotMatched as error:
            is_primary = self.address.target == "standby"
            words = "a primary, and no standby" if is_primary else "a standby, which cannot write"
            raise WrongServer(f"{server}: {words}") from error
        except asyncpg.ConnectionDoesNotExistError as error:
            if "sslcert" not in self.address.files:
                raise
            # TLS 1.3 is open before the server has looked at it, and what it then says is often lost.
            words = "the server closed the connection: perhaps it does not take the certificate in sslcert"
            raise ServerUnreachable(f"{server}: {tls_fault(error, authorities='sslrootcert') or words}") from error
        except asyncpg.ProtocolViolationError as error:
            # Postgres itself knows the parameter.
            if "unsupported startup parameter" not in str(error):
                raise
            raise ServerUnreachable(f"{server}: {_POOLER}") from error
        if isinstance(connection, TranslatingConnection):
            connection.schema, connection.is_pooled = self.schema, self.is_pooled
        return connection, server

    async def _first_of(self, servers: Sequence[_Server]) -> tuple[DriverConnection, _Server]:
        tries: dict[_Try, _Server] = {}
        winner: _Try | None = None
        faults: dict[_Server, BaseException] = {}
        left = list(servers)
        try:
            while left or len(faults) < len(tries):
                if left:
                    server = left.pop(0)
                    tries[asyncio.create_task(self._try(server))] = server
                running = [one for one in tries if not one.done()]
                done, _ = await asyncio.wait(
                    running, timeout=STAGGER_SECONDS if left else None, return_when=asyncio.FIRST_COMPLETED
                )
                for one in done:
                    fault = one.exception()
                    if fault is None:
                        winner = one
                        return one.result()
                    faults[tries[one]] = fault
        finally:
            for one in tries:
                if one is not winner:
                    one.add_done_callback(_terminate)
                    one.cancel()
        raise _together(faults)


async def _lookup(host: Host) -> list[str]:
    if host.is_socket:
        return [host.name]
    found = await asyncio.get_running_loop().getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _terminate(one: _Try) -> None:
    """Drop a connection that came second."""
    with suppress(asyncio.CancelledError, Exception):
        one.result()[0].terminate()


def _together(faults: dict[_Server, BaseException]) -> BaseException:
    """What to raise where no server serves: Postgres's own refusal, if one is more than not being there yet."""
    for fault in faults.values():
        if isinstance(fault, asyncpg.PostgresError) and not isinstance(fault, asyncpg.CannotConnectNowError):
            return fault
    named = (
        str(fault) if isinstance(fault, ServerUnreachable) else f"{server}: {reason_of(fault)}"
        for server, fault in faults.items()
    )
    kind = WrongServer if all(isinstance(fault, WrongServer) for fault in faults.values()) else ServerUnreachable
    return kind("; ".join(named))


def reason_of(fault: BaseException) -> str:
    """Why a connection could not be made, for a person."""
    if words := tls_fault(fault, authorities="sslrootcert"):
        return words
    match fault:
        case ServerUnreachable():
            return str(fault)
        case TimeoutError():
            return "no answer"
        case ConnectionRefusedError():
            return "connection refused"
        case FileNotFoundError():
            return "there is no such socket"
        case asyncpg.InvalidSQLStatementNameError() | asyncpg.DuplicatePreparedStatementError():
            # The statement was prepared in another session, or one of its name was.
            return _POOLER
        case asyncpg.CannotConnectNowError():
            return "the server is starting or stopping"
        case ConnectionError() if "rejected SSL upgrade" in str(fault):
            return "the server offers no TLS"
        case OSError(strerror=str(words)) if words:
            return words
        case _:
            return str(fault) or UNKNOWN


def unreachable(address: Address, fault: BaseException) -> str:
    """That the database cannot be reached, at which host and port, and why, for a person."""
    if isinstance(fault, ServerUnreachable):
        return f"The database cannot be reached ({fault})"
    where = ", ".join(str(host) for host in address.hosts)
    return f"The database cannot be reached ({where}: {reason_of(fault)})"


def schema_of(connection: AsyncConnection) -> str:
    """The schema that the engine of `connection` works in."""
    return str(connection.sync_connection.get_execution_options()[_SCHEMA_OPTION] if connection.sync_connection else SCHEMA)


async def driver_of(connection: AsyncConnection) -> asyncpg.Connection:
    """The driver's connection inside the transaction that `connection` has begun.

    Raises:
        RuntimeError: no statement has run yet, so SQLAlchemy has not told Postgres of its transaction.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, asyncpg.Connection)
    if not driver.is_in_transaction():
        raise RuntimeError("the transaction has not begun")
    return driver
