"""What a person reads of a failure: words of ours, and never the name of a Python class."""

import ast
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx2
import pytest
from asyncpg.exceptions import _base
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.doctor.check import not_looked_at
from app.failure import UNKNOWN, reason_of_call
from app.storage.engine import reason_of
from app.storage.transactions import why_failed

APP = Path(__file__).parents[2] / "app"
ALLOWED = {"tracing.py": "error.type of a span, which OpenTelemetry says is the type"}
"""Files that name an error's class, and why. In a log, the field is `exception`."""


class UnheardOf(Exception):
    """An error that nobody has thought of."""


class UnheardOfSystemError(OSError):
    """Another one, of the system's kind."""


class UnheardOfTransportError(httpx2.TransportError):
    """Another one, of the client's kind."""


class UnheardOfInterfaceError(asyncpg.InterfaceError):
    """Another one, of the driver's kind."""


class UnheardOfDatabaseError(SQLAlchemyError):
    """Another one, of the library's kind."""


def caused(outer: Exception, *causes: Exception) -> Exception:
    """`outer`, with a chain of causes."""
    above = outer
    for cause in causes:
        above.__cause__ = cause
        above = cause
    return outer


TWO_REFUSED = ExceptionGroup("two tries", [ConnectionRefusedError(111, "no"), ConnectionRefusedError(111, "no")])


@pytest.mark.parametrize(
    "error",
    [
        UnheardOf(),
        UnheardOfSystemError(),
        UnheardOfTransportError(""),
        UnheardOfInterfaceError(""),
        UnheardOfDatabaseError(),
        httpx2.ReadError(""),
        httpx2.RemoteProtocolError(""),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.UndefinedTableError("m"),
        DBAPIError("s", {}, caused(Exception(""), asyncpg.InterfaceError(""))),
        PoolTimeout("QueuePool limit"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_class_is_named_whatever_the_error_is(error: Exception) -> None:
    for said in (reason_of_call(error), reason_of(error), why_failed(error), not_looked_at("rights", error).reason):
        assert said
        assert type(error).__name__ not in said
        assert "Error" not in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            caused(httpx2.ConnectError("All failed"), OSError("All failed"), ConnectionRefusedError(111, "no")),
            "connection refused",
        ),
        (caused(httpx2.ConnectError("x"), socket.gaierror(-2, "Name unknown")), "its name cannot be looked up"),
        (caused(httpx2.ConnectError("x"), ssl.SSLError(1, "[SSL] x")), "TLS failed"),
        (caused(httpx2.ConnectError("x"), OSError(113, "No route to host")), "No route to host"),
        (httpx2.ConnectError("secret in an address"), "no connection could be made"),
        (httpx2.ReadTimeout("x"), "no answer in time"),
        (httpx2.UnsupportedProtocol("Request URL has an unsupported protocol 'foo://'"), "its address is no http or https"),
        # As anyio tells of a name with two addresses.
        (caused(httpx2.ConnectError("x"), OSError("All failed"), TWO_REFUSED), "connection refused"),
        (UnheardOf("secret"), UNKNOWN),
    ],
)
def test_the_cause_that_says_most_is_told_and_no_text_of_a_library(error: Exception, words: str) -> None:
    assert words == reason_of_call(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (asyncpg.InsufficientPrivilegeError("m"), "a table, a function or a right is missing (42501)"),
        (asyncpg.UniqueViolationError("Key (secret) exists"), "another transaction came first (23505)"),
        (_base.DataError("invalid input 'secret'"), "a value cannot be sent to Postgres"),
        (DBAPIError("s", {}, caused(Exception("x"), asyncpg.InterfaceError("closed"))), "the connection was lost"),
        (PoolTimeout("QueuePool limit"), "all connections were in use"),
        (ConnectionRefusedError(111, "Connect call failed"), "connection refused"),
        (asyncpg.QueryCanceledError("m"), "it took longer than it may (57014)"),
        (asyncpg.LockNotAvailableError("m"), "another session holds what it needs (55P03)"),
        (asyncpg.AdminShutdownError("m"), "the server ended the connection (57P01)"),
        (asyncpg.TooManyConnectionsError("m"), "the server has no connection left (53300)"),
        (asyncpg.DiskFullError("m"), "the disk is full (53100)"),
    ],
)
def test_a_failure_of_the_database_is_told_without_the_values_in_it(error: Exception, words: str) -> None:
    assert words == why_failed(error)


def naming(tree: ast.AST) -> Iterator[int]:
    """The lines that make text of an error's class, or Python's own text of an error."""
    allowed = {
        id(word.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "exception"
    }
    caught = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.name}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr="__class__" | "__qualname__"):
                yield node.lineno
            case ast.Attribute(value=ast.Call(func=ast.Name(id="type")), attr="__name__") if id(node) not in allowed:
                yield node.lineno
            case ast.FormattedValue(value=ast.Name(id=name), conversion=114) if name in caught:
                yield node.lineno
            case ast.Call(func=ast.Name(id="repr"), args=[ast.Name(id=name)]) if name in caught:
                yield node.lineno


def test_the_class_of_an_error_is_named_in_the_log_alone() -> None:
    found = {
        f"{path.relative_to(APP)}:{line}"
        for path in APP.rglob("*.py")
        if str(path.relative_to(APP)) not in ALLOWED
        for line in naming(ast.parse(path.read_text(encoding="utf-8")))
    }

    assert set() == found


@pytest.mark.parametrize(
    "source",
    ["f'{type(error).__name__}'", "error.__class__.__name__", "f'{error!r}'", "print(repr(error))", "type(error).__qualname__"],
)
def test_the_look_at_the_source_finds_each_way_to_name_a_class(source: str) -> None:
    assert [*naming(ast.parse(f"try: pass\nexcept OSError as error: {source}"))]
