"""A ping: a signed body that changes nothing. It is answered 204 where this database sent it, and by nobody else.

That of `pos-sync doctor` is signed wrongly, to see it refused. A digest in its body, which only who knows the client secret can
make, tells it from what strangers send.
"""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Sequence

from app.errors import DatabaseAway
from app.errors.requests import UnknownPing

OPENING = b'{"ping":"'
_BODY = re.compile(rb'\{"ping":"([0-9a-f]{32})"\}')
MAX_PROOF_AGE = 300
"""Seconds between the clock of who sent a ping that is to be refused, and ours: nobody can use its body again for long."""
_OF_DOCTOR = re.compile(rb'\{"doctor":"([0-9]{1,12})","proof":"([0-9a-f]{64})"\}')
_PROOF_KEY = b"pos-sync doctor: a ping that is to be refused"


def ping_body(nonce: str) -> bytes:
    """The body of the ping `nonce`, 32 hexadecimal digits."""
    return b'{"ping":"' + nonce.encode("ascii") + b'"}'


def read_ping(body: bytes) -> str | None:
    """The nonce of a ping; None where the body is none."""
    if not body.startswith(OPENING):
        return None
    found = _BODY.fullmatch(body)
    return None if found is None else found[1].decode("ascii")


def doctor_ping_body(secret: bytes, *, now: float) -> bytes:
    """The body of a ping that is sent with a wrong signature. `now` is a Unix time.

    It names no store: where it is taken for a stranger's, since the secrets differ, it is no problem of a pair.
    """
    moment = str(int(now)).encode("ascii")
    return b'{"doctor":"%b","proof":"%b"}' % (moment, _proof(secret, moment).hex().encode("ascii"))


def is_doctor_ping(body: bytes, secrets: Sequence[bytes], *, now: float) -> bool:
    """Whether somebody made it lately who knows one of the secrets."""
    found = _OF_DOCTOR.fullmatch(body)
    if found is None or abs(now - int(found[1])) > MAX_PROOF_AGE:
        return False
    given = bytes.fromhex(found[2].decode("ascii"))
    return any(hmac.compare_digest(_proof(secret, found[1]), given) for secret in secrets)


def _proof(secret: bytes, moment: bytes) -> bytes:
    # With a key of its own: so it is the signature of nothing.
    return hmac.digest(hmac.digest(secret, _PROOF_KEY, hashlib.sha256), moment, hashlib.sha256)


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
