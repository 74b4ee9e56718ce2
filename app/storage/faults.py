"""What a failure of the database means for what was being written: a pure table, from the driver's error to one of seven."""

from enum import Enum, auto

import asyncpg
from sqlalchemy.exc import DBAPIError


class Fault(Enum):
    """What to do about a failed transaction."""

    AWAY = auto()
    """Postgres, or the way to it, is not working, or the outcome is unknown: connect again and run the whole again."""
    CONFLICT = auto()
    """Another transaction came first: run the whole again at once."""
    BUSY = auto()
    """Another session held a lock for too long: run again, apart from what waits for it."""
    BROKEN = auto()
    """Postgres failed inside (a damaged page, a file system): it may be one row's, so find whose, and try that one again."""
    DATA = auto()
    """The database refuses a value: find whose it is, spare the others."""
    NOT_SET_UP = auto()
    """Tables or rights are missing: an operator has to act."""
    BUG = auto()
    """Our own code is wrong: find for which delivery, spare the others."""


_CONFLICTS = {"23505", "40001", "40P01"}
"""unique_violation (a place in the ledger was taken), serialization_failure, deadlock_detected"""
_BUSY = {"55P03", "57014"}
"""lock_not_available, query_canceled (statement_timeout)"""
_AWAY_CLASSES = {"08", "25", "28", "3D", "53", "57"}
"""connection, transaction state (read-only after a failover), authorisation, no database, resources (disk full, too many
connections), operator (shutdown)"""
_BROKEN_CLASSES = {"58", "XX"}
"""system error, internal error"""
_NOT_SET_UP = {"42501", "42P01", "42703", "42883", "42704", "3F000"}
"""insufficient_privilege; undefined table, column, function, object, schema"""
_DATA_CLASSES = {"22", "23", "44", "54", "P0"}
"""data exception, integrity violation, check option, program limit (an index row too long), raised by a trigger"""


def sqlstate(error: BaseException) -> str:
    """The five-character code with which Postgres refused (its manual, appendix A); empty where it did not answer.

    SQLAlchemy's errors hold the driver's in `orig`.
    """
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def classify(error: BaseException) -> Fault:
    """Return the fault behind `error`, which is the driver's, or SQLAlchemy's around it."""
    if isinstance(error, DBAPIError):
        error = (error.orig and error.orig.__cause__) or error
    if isinstance(error, asyncpg.PostgresError):
        state = sqlstate(error)
        if state in _CONFLICTS or isinstance(error, asyncpg.InvalidCachedStatementError):
            return Fault.CONFLICT
        if state in _BUSY:
            return Fault.BUSY
        if state in _NOT_SET_UP:
            return Fault.NOT_SET_UP
        if state[:2] in _AWAY_CLASSES:
            return Fault.AWAY
        if state[:2] in _BROKEN_CLASSES:
            return Fault.BROKEN
        return Fault.DATA if state[:2] in _DATA_CLASSES else Fault.BUG
    # A server that is away raises bare OSErrors (refused, no such socket, unknown host); a lost connection, InterfaceError.
    if isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return Fault.AWAY
    return Fault.BUG
