"""Sign and verify bytes: lower-case hex HMAC-SHA256 of the raw body, keyed with the client secret's ASCII text.

Whatever is malformed ends like a wrong signature. The body is never parsed or written again before it is verified:
the sender escapes as PHP does, so only its own bytes verify (docs/reference/mipos-api.md, "Signature vectors").
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from enum import StrEnum

HEADER = "X-Signature-Request"

_HEX_DIGEST = re.compile(rb"[0-9a-fA-F]{64}")


class Key(StrEnum):
    """Which of the configured secrets verified a body."""

    CURRENT = "current"
    PREVIOUS = "previous"


def sign(body: bytes, secret: bytes) -> str:
    """The value of X-Signature-Request for `body`."""
    return hmac.digest(secret, body, hashlib.sha256).hex()


def verify(body: bytes, signature: bytes, secrets: Sequence[tuple[Key, bytes]]) -> Key | None:
    """The key that signed `body`, or None: for a wrong signature and for anything that is not 64 hex digits.

    Compares bytes in constant time: as text, a header byte above 127 would raise.
    """
    if _HEX_DIGEST.fullmatch(signature) is None:
        return None
    claimed = bytes.fromhex(signature.decode("ascii"))
    matched = None
    for key, secret in secrets:
        if hmac.compare_digest(hmac.digest(secret, body, hashlib.sha256), claimed) and matched is None:
            matched = key
    return matched
