"""What an answer of mipOS means for us: a pure reading of status and bytes into one of four, and the pause before the next try.

Source of the forms: reference/mipos-api.md, "How they answer when they refuse". A 2xx is a success; a refusal says what
is wrong in a bare JSON string, in `message` as text or list, or in a map of field to list; anything may be HTML, or nothing.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from app.mipos.redaction import documented, redact
from app.storage.waits import MAX_CALL_PAUSE

MAX_WORDS_LENGTH = 300
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_NOT_TAKEN = {*_TRANSIENT, HTTPStatus.SERVICE_UNAVAILABLE}
"""Said before anything is done. Any other failure may have come after it."""


@dataclass(frozen=True, slots=True)
class Done:
    """mipOS did it. `words` is what it said, `data` what it handed back."""

    words: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """mipOS does not accept the access token. From `AccessTokens.call`: it accepts none of this account, or there is none."""

    words: str


@dataclass(frozen=True, slots=True)
class Transient:
    """It may work later: unreachable, too slow, overloaded, or broken for the moment."""

    words: str
    retry_after: float | None = None
    """Seconds, where mipOS named them."""
    may_have_arrived: bool = False
    """Whether what was sent may have been acted on: the answer was lost, or came from somewhere on the way."""


@dataclass(frozen=True, slots=True)
class NeedsHuman:
    """mipOS understood and refuses: calling again changes nothing until a person does. `words` is what it said."""

    words: str
    status: int


Answer = Done | Unauthorized | Transient | NeedsHuman


def attributed(words: str) -> str:
    """`words` as mipOS's, for a person; what we say of mipOS is not."""
    return words if words.startswith("mipOS ") else f"mipOS says: {words}"


def read_answer(
    status: int,
    body: bytes,
    *,
    retry_after: str | None = None,
    secrets: Collection[str] = (),
    only_documented: bool = False,
) -> Answer:
    """What `status` and `body` mean; `secrets` are blacked out of the words. Never raises, whatever the bytes are.

    With `only_documented`, other words of a refusal are not kept: that of a token call may repeat what was sent.

    A success is an empty body or a JSON object: a 200 with anything else is a portal or a maintenance page in between.
    """
    document = _parse(body)
    words = _words(document, body, secrets) or f"status {status}, without a word"
    is_success = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
    if only_documented and not (is_success and isinstance(document, dict)):
        words = documented(words, status)
    if is_success:
        if body.strip() and not isinstance(document, dict):
            return Transient(f"an answer that is not mipOS's: {words}", may_have_arrived=True)
        data = document.get("data") if isinstance(document, dict) else None
        return Done(words, data if isinstance(data, dict) else {})
    if status == HTTPStatus.UNAUTHORIZED:
        return Unauthorized(words)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT:
        return Transient(words, _seconds(retry_after), may_have_arrived=status not in _NOT_TAKEN)
    return NeedsHuman(words, status)


def _parse(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _words(document: Any, body: bytes, secrets: Collection[str]) -> str:  # noqa: ANN401 - any JSON value
    """What a person should read of an answer, in mipOS's own words."""
    if document is None:
        # Before anything is cut out or off: a part of a secret is none that would be recognised.
        text = redact(body.decode("utf-8", "replace"), secrets)
        text = _TAG.sub(" ", text[: MAX_WORDS_LENGTH * 20])
    elif isinstance(document, dict) and "message" in document:
        text = " ".join(_texts(document["message"]))
    else:
        text = " ".join(_texts(document))
    text = redact(text, secrets)
    text = redact(" ".join("".join(c if c.isprintable() else " " for c in text).split()), secrets)
    return text if len(text) <= MAX_WORDS_LENGTH else text[: MAX_WORDS_LENGTH - 1] + "…"


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """The texts in a string, a list, or a map of field to list; nothing deeper is searched."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (text for text in value if isinstance(text, str))
    elif isinstance(value, dict):
        for texts in value.values():
            if isinstance(texts, (str, list)):
                yield from _texts(texts)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its date form is rare, and then our own backoff does."""
    if retry_after is None or not retry_after.strip().isdecimal() or len(retry_after) > len("86400"):
        return None
    return float(retry_after)


MIN_PAUSE = timedelta(seconds=1)


def backoff(attempts: int, *, jitter: float, asked: float | None = None) -> timedelta:
    """How long to wait after the `attempts`-th failure: doubling from a second to minutes, less up to half by jitter."""
    pause = min(MIN_PAUSE * 2 ** min(attempts - 1, 20), MAX_CALL_PAUSE)
    pause -= pause * jitter / 2
    return pause if asked is None else min(max(pause, timedelta(seconds=asked)), MAX_CALL_PAUSE)
