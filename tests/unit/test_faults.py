import socket

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from app.storage.transactions import Fault, classify, sqlstate


def postgres_error(state: str) -> asyncpg.PostgresError:
    error = asyncpg.PostgresError("m")
    error.sqlstate = state  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ConnectionRefusedError(), Fault.AWAY),
        (FileNotFoundError(), Fault.AWAY),
        (socket.gaierror(), Fault.AWAY),
        (TimeoutError(), Fault.AWAY),
        (asyncpg.InterfaceError("connection is closed"), Fault.AWAY),
        (asyncpg.ConnectionDoesNotExistError(), Fault.AWAY),
        (asyncpg.AdminShutdownError(), Fault.AWAY),
        (asyncpg.CannotConnectNowError(), Fault.AWAY),
        (asyncpg.TooManyConnectionsError(), Fault.AWAY),
        (asyncpg.DiskFullError(), Fault.AWAY),
        (asyncpg.ReadOnlySQLTransactionError(), Fault.AWAY),
        (asyncpg.InvalidCatalogNameError(), Fault.AWAY),
        (asyncpg.InvalidPasswordError(), Fault.AWAY),
        (asyncpg.InternalServerError(), Fault.BROKEN),
        (asyncpg.DataCorruptedError(), Fault.BROKEN),
        (asyncpg.PostgresIOError(), Fault.BROKEN),
        (asyncpg.InvalidCachedStatementError(), Fault.CONFLICT),
        (asyncpg.UniqueViolationError(), Fault.CONFLICT),
        (asyncpg.DeadlockDetectedError(), Fault.CONFLICT),
        (asyncpg.SerializationError(), Fault.CONFLICT),
        (asyncpg.LockNotAvailableError(), Fault.BUSY),
        (asyncpg.QueryCanceledError(), Fault.BUSY),
        (asyncpg.CheckViolationError(), Fault.DATA),
        (asyncpg.CharacterNotInRepertoireError(), Fault.DATA),
        (asyncpg.DataError(), Fault.DATA),
        (asyncpg.RaiseError(), Fault.DATA),
        (asyncpg.ProgramLimitExceededError(), Fault.DATA),
        (asyncpg.UndefinedTableError(), Fault.NOT_SET_UP),
        (asyncpg.InsufficientPrivilegeError(), Fault.NOT_SET_UP),
        (asyncpg.PostgresSyntaxError(), Fault.BUG),
        (ValueError(), Fault.BUG),
        (postgres_error(""), Fault.BUG),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, Exception) else case.name,
)
def test_what_a_failure_of_the_database_means(error: Exception, fault: Fault) -> None:
    assert fault is classify(error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (asyncpg.LockNotAvailableError(), "55P03"),
        (DBAPIError("SELECT 1", None, asyncpg.LockNotAvailableError()), "55P03"),
        (DBAPIError("SELECT 1", None, ConnectionRefusedError()), ""),
        (TimeoutError(), ""),
    ],
)
def test_the_code_is_found_in_errors_of_both_drivers(error: Exception, code: str) -> None:
    assert code == sqlstate(error)
