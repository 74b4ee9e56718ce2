"""A ping: a signed body that changes nothing. It is answered 204 where this database sent it, and by nobody else."""

import re
from collections.abc import Awaitable, Callable

from app.errors import DatabaseAway
from app.errors.requests import UnknownPing

OPENING = b'{"ping":"'
_BODY = re.compile(rb'\{"ping":"([0-9a-f]{32})"\}')


def ping_body(nonce: str) -> bytes:
    """The body of the ping `nonce`, 32 hexadecimal digits."""
    return b'{"ping":"' + nonce.encode("ascii") + b'"}'


def read_ping(body: bytes) -> str | None:
    """The nonce of a ping; None where the body is none."""
    if not body.startswith(OPENING):
        return None
    found = _BODY.fullmatch(body)
    return None if found is None else found[1].decode("ascii")


async def answer_ping(nonce: str, arrive: Callable[[str], Awaitable[bool]]) -> None:
    """Note that the ping arrived, by `arrive`, which says whether this database knows it.

    Raises:
        UnknownPing: another deployment sent it.
        DatabaseAway: nobody can tell.
    """
    try:
        is_ours = await arrive(nonce)
    except Exception as error:
        raise DatabaseAway from error
    if not is_ours:
        raise UnknownPing
