"""Blacks secrets out of what mipOS says: error pages of frameworks quote the request, in any encoding that they print.

A token call is one step stricter: its words are kept only where they are documented, or say no more than the name of a field.
"""

import base64
import html
import json
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from itertools import chain
from urllib.parse import quote, quote_plus

MASK = "***"
_DOCUMENTED = re.compile(
    r"(?:(?:Access token|New access token|Invalid credentials|Unauthorized)\.|(?:Client id|Client secret|Token) not found"
    r" with this user\.|Authenticated user not found\.|Token Mismatch\.|The [a-z_ ]{1,40} field is required\."
    r"|The selected grant type is invalid\.)(?: |$)"
)
"""What the pages of mipOS's documentation list for these calls, and the forms of Laravel's validation, in which it answers."""
_UNKNOWN_WORDS = "mipOS refused the token call in words that are not kept, since they may repeat what was sent"
MIN_PART_BYTES = 6
"""A shorter part of a base64 text could be by chance."""


def redact(text: str, secrets: Collection[str]) -> str:
    """`text` without any of `secrets`, as they are and as HTML, URLs, JSON, base64 and hexadecimal write them."""
    for secret in secrets:
        if secret:
            text = _pattern(secret).sub(MASK, text)
    return text


def documented(words: str, status: int) -> str:
    """The words of a token call that are known to repeat nothing; else that they were not kept."""
    rest = words
    while rest and (found := _DOCUMENTED.match(rest)):
        rest = rest[found.end() :]
    return words if words and not rest else f"{_UNKNOWN_WORDS} (status {status})"


@lru_cache(64)
def _pattern(secret: str) -> re.Pattern[str]:
    """The longest forms first, so that no rest of one stays."""
    forms = sorted(set(_forms(secret)), key=len, reverse=True)
    return re.compile("|".join(re.escape(form) for form in forms), re.IGNORECASE)


def _forms(secret: str) -> Iterator[str]:
    for form in (secret, " ".join(secret.split())):
        yield from chain(_plain(form), _base64(form.encode()))
    # One inside the other: an HTML page that shows a URL or a JSON text.
    for outer in _plain(secret):
        yield from _plain(outer)
    yield secret.encode().hex()


def _plain(text: str) -> Iterator[str]:
    yield text
    quoted = html.escape(text)
    # &#x27; is Python's, &#039; PHP's, &apos; XML's.
    for apostrophe in ("&#x27;", "&#039;", "&#39;", "&apos;", "'"):
        for quotation in ("&quot;", "&#34;", "&#034;", '"'):
            yield quoted.replace("&#x27;", apostrophe).replace("&quot;", quotation)
    yield "".join(f"&#{ord(character)};" for character in text)
    yield "".join(f"&#x{ord(character):x};" for character in text)
    yield text.encode("ascii", "xmlcharrefreplace").decode()
    for safe in ("", "/", "!'()*", "!'()*/~:@,;$&+=-._"):
        yield quote(text, safe=safe)
    yield quote_plus(text)
    yield "".join(f"%{byte:02X}" for byte in text.encode())
    for ascii_only in (True, False):
        inside = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield inside
        yield inside.replace("/", r"\/")
        # PHP's JSON_HEX_TAG and its like
        for character in "<>&'\"":
            inside = inside.replace(character if character != '"' else r"\"", f"\\u{ord(character):04X}")
        yield inside
    yield repr(text)[1:-1]


def _base64(data: bytes) -> Iterator[str]:
    """As a text of its own, and as a part of a longer one, such as `client:secret`, at each of the three places of a byte."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(data).decode()
        yield encode(data).decode().rstrip("=")
        for before in range(3):
            whole = encode(b"\0" * before + data).decode()
            # What the bytes before and behind it share a character with is another in each text.
            inner = whole[-(-before * 8 // 6) : len(whole) if (before + len(data)) % 3 == 0 else -4 + (before + len(data)) % 3]
            if len(inner) >= MIN_PART_BYTES:
                yield inner
