"""Why a signature does not match: the usual mistakes, tried one by one and by twos and threes. Pure, and it accepts nothing.

Each way in which a sender's signature may differ from ours is a `Deviation`, of the key, of the body or of the header. What is
tried is every key with every body; the header is read in each way in which it can be read. Neither a key nor a digest that was
computed here is in what is returned.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.receiving.serialisation import TRIED, serialisations
from app.receiving.signature import HEADER

MAX_COMBINED_BYTES = 65536
"""Of a larger body only single deviations are tried: all of them together take minutes."""


class Place(StrEnum):
    """Where something has to be changed."""

    HERE = "here"
    SENDER = "at the sender"
    BETWEEN = "between"


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way in which what was signed differs from what arrived here, and what to change where."""

    name: str
    place: Place
    remedy: str


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A secret to try. `name` is shown, `secret` never; `deviation` says what it means that it is this one."""

    name: str
    secret: bytes
    deviation: Deviation | None = None
    """None: a secret with which this service verifies."""


@dataclass(frozen=True, slots=True)
class Match:
    """What the signature was made of. Without deviations it verifies here."""

    key: str
    deviations: tuple[Deviation, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What matched, if anything, and all that was tried. `problems` are what is wrong with the header itself."""

    match: Match | None
    problems: tuple[str, ...]
    is_signed: bool
    """Whether there is a signature that could match"""
    tried: Mapping[str, tuple[str, ...]]
    """By what it is of (`keys`, `bodies`, ...), the forms that were tried; the same for every secret and body"""
    combinations: int


Hash = Callable[[bytes, bytes], bytes]

_SIGN_THE_TEXT = "Sign with the text of the client secret, as the mipOS document says: no character more, and not decoded."
_SIGN_WHAT_IS_SENT = (
    "Sign the bytes that are sent. If they were signed as they left, a proxy, firewall or framework on the way writes the body "
    "again: let it pass the bytes unchanged."
)
_SEND_HEX = f"Send {HEADER} as 64 hexadecimal digits in lower case, and nothing else."
_USE_HMAC = "Use HMAC with SHA-256, as the mipOS document says."

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def _of_key(name: str) -> Deviation:
    return Deviation(f"the key is {name}", Place.SENDER, _SIGN_THE_TEXT)


def _from_hex(secret: bytes) -> bytes | None:
    text = secret.strip()
    return bytes.fromhex(text.decode("ascii")) if re.fullmatch(rb"(?:[0-9a-fA-F]{2})+", text) else None


def _from_base64(secret: bytes) -> bytes | None:
    text = secret.strip().translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True) or None
    except ValueError:
        return None


_KEY_FORMS: tuple[tuple[str, Callable[[bytes], bytes | None]], ...] = (
    ("the secret without the blanks around it", bytes.strip),
    ("the secret with a line feed after it", lambda secret: secret + b"\n"),
    ("the secret with a carriage return and a line feed after it", lambda secret: secret + b"\r\n"),
    ("the secret with a blank after it", lambda secret: secret + b" "),
    ("the secret with a blank before it", lambda secret: b" " + secret),
    ("the secret with a byte order mark before it", lambda secret: _BYTE_ORDER_MARK + secret),
    ("the secret without a byte order mark", lambda secret: secret.removeprefix(_BYTE_ORDER_MARK).strip()),
    ("the secret in double quotes", lambda secret: b'"' + secret + b'"'),
    ("what the secret is as hexadecimal", _from_hex),
    ("what the secret is as base64", _from_base64),
    ("the secret, encoded as base64", base64.b64encode),
    ("the secret, encoded as hexadecimal", lambda secret: secret.hex().encode()),
    ("the secret in upper case", bytes.upper),
    ("the secret in lower case", bytes.lower),
    ("the SHA-256 of the secret, in hexadecimal", lambda secret: hashlib.sha256(secret).hexdigest().encode()),
    ("empty", lambda _secret: b""),
)

_BODY_FORMS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("without what is blank at its end", bytes.rstrip),
    ("with a line feed at its end", lambda body: body + b"\n"),
    ("with a carriage return and a line feed at its end", lambda body: body + b"\r\n"),
    ("with line feeds as its line ends", lambda body: body.replace(b"\r\n", b"\n")),
    ("with carriage returns and line feeds as its line ends", lambda body: re.sub(rb"\r?\n", b"\r\n", body)),
    ("without a byte order mark", lambda body: body.removeprefix(_BYTE_ORDER_MARK)),
    ("with a byte order mark", lambda body: _BYTE_ORDER_MARK + body),
    ("encoded as base64", base64.b64encode),
    ("without any of its bytes (nothing was signed)", lambda _body: b""),
)

_HASHES: tuple[tuple[str, int, Hash], ...] = (
    ("HMAC-SHA256", 32, lambda key, body: hmac.digest(key, body, hashlib.sha256)),
    ("SHA-256 of the secret and the body, without HMAC", 32, lambda key, body: hashlib.sha256(key + body).digest()),
    ("SHA-256 of the body and the secret, without HMAC", 32, lambda key, body: hashlib.sha256(body + key).digest()),
    ("HMAC-SHA1", 20, lambda key, body: hmac.digest(key, body, hashlib.sha1)),
    ("HMAC-SHA384", 48, lambda key, body: hmac.digest(key, body, hashlib.sha384)),
    ("HMAC-SHA512", 64, lambda key, body: hmac.digest(key, body, hashlib.sha512)),
)
_SIZES = {size for _, size, _ in _HASHES}

_HEADER_FORMS = (
    "as hexadecimal",
    "in upper case",
    "as base64",
    "as base64 of the hexadecimal digits",
    "after a prefix (sha256=)",
)
_PREFIX = re.compile(r"(?:t=\d+,\s*v1|[A-Za-z][A-Za-z0-9-]{0,15})[=:]\s*(?=\S{16})")


def _of_header(name: str) -> Deviation:
    return Deviation(f"the digest comes {name}", Place.SENDER, _SEND_HEX)


def explain(
    body: bytes,
    signatures: Sequence[tuple[str, str]],
    keys: Sequence[NamedKey],
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Explanation:
    """What the first match is of `body` and `signatures`, the pairs of name and value of the headers that hold one.

    The fewest deviations are found first. Of several headers each is tried. `on_progress` is told with how many keys, of how
    many, all bodies were tried: a body of 64 KiB takes seconds.
    """
    bodies = list(_bodies(body))
    variants = list(_keys(keys))
    problems: list[str] = []
    readings: list[tuple[tuple[Deviation, ...], bytes]] = []
    if len(signatures) > 1:
        problems.append(
            f"The signature came {len(signatures)} times, and is then taken for none: a proxy could have read the other."
        )
    for header, value in signatures:
        found = list(_readings(value))
        if header.lower() != HEADER.lower():
            found = [((_under(header), *deviations), digest) for deviations, digest in found]
        elif not found:
            problems.append(f"The value of {HEADER} is no digest: {_described(value)}.")
        if len(signatures) > 1:
            found = [((_TWICE, *deviations), digest) for deviations, digest in found]
        readings += found
    if not signatures:
        problems.append(f"The request had no header {HEADER}: nothing was signed, or something on the way removes the header.")
    return Explanation(
        match=_first_match(
            readings, variants, bodies, limit=1 if len(body) > MAX_COMBINED_BYTES else None, on_progress=on_progress
        ),
        problems=tuple(problems),
        is_signed=bool(signatures),
        tried={
            "secrets": tuple(key.name for key in keys),
            "keys": ("the secret as it is", *(name for name, _ in _KEY_FORMS)),
            "bodies": ("as it is", *(name for name, _ in _BODY_FORMS)),
            "bodies, if they are JSON": TRIED,
            "digests": _HEADER_FORMS,
            "hashes": tuple(name for name, *_ in _HASHES),
        },
        combinations=len(variants) * len(bodies),
    )


_TWICE = Deviation(
    "the header comes more than once", Place.BETWEEN, f"Send {HEADER} once; look whether a proxy adds it to one that is there."
)


def _under(header: str) -> Deviation:
    return Deviation(f"the header is named {header}", Place.SENDER, f"Send it as {HEADER}; if a proxy renames it, let it pass.")


def _described(value: str) -> str:
    """The form of a header that is no digest, without its words."""
    if not value.strip():
        return "it is empty"
    return f"it has {len(value)} characters, and HMAC-SHA256 in hexadecimal has 64"


def _keys(keys: Sequence[NamedKey]) -> Iterator[tuple[NamedKey, Deviation | None, bytes]]:
    """Each key as it is, and then each form of each that is another one."""
    seen = {key.secret for key in keys}
    for key in keys:
        yield key, None, key.secret
    for key in keys:
        for name, form in _KEY_FORMS:
            secret = form(key.secret)
            if secret is not None and secret not in seen:
                seen.add(secret)
                yield key, _of_key(name), secret


def _bodies(body: bytes) -> Iterator[tuple[Deviation | None, bytes]]:
    """The body as it is, and then each form that has other bytes."""
    seen = {body}
    yield None, body
    for name, variant in (*((name, form(body)) for name, form in _BODY_FORMS), *serialisations(body)):
        for ending, ended in ((name, variant), (f"{name}, with a line feed at its end", variant + b"\n")):
            if ended not in seen:
                seen.add(ended)
                yield Deviation(f"what was signed is the body {ending}", Place.SENDER, _SIGN_WHAT_IS_SENT), ended


def _readings(value: str) -> Iterator[tuple[tuple[Deviation, ...], bytes]]:
    """The digests that a header may mean, with what is unusual about that."""
    text = value.strip().strip("\"'").strip()
    prefix = _PREFIX.match(text)
    stripped = text[prefix.end() :] if prefix else text
    before = [_of_header(f"after {prefix.group().strip()}")] if prefix else []
    if not prefix and text != value:
        before = [_of_header("with blanks or quotes around it")]
    if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", stripped):
        # Upper case is taken here as well, so it is no reason.
        digest = bytes.fromhex(stripped)
        if len(digest) in _SIZES:
            yield tuple(before), digest
    decoded = _from_base64(stripped.encode("utf-8", "surrogateescape"))
    if decoded is not None and len(decoded) in _SIZES:
        yield (*before, _of_header("as base64")), decoded
    if decoded is not None and (inner := _from_hex(decoded)) is not None and len(inner) in _SIZES:
        yield (*before, _of_header("as base64 of the hexadecimal digits")), inner


def _first_match(
    readings: Sequence[tuple[tuple[Deviation, ...], bytes]],
    keys: Sequence[tuple[NamedKey, Deviation | None, bytes]],
    bodies: Sequence[tuple[Deviation | None, bytes]],
    *,
    limit: int | None,
    on_progress: Callable[[int, int], None],
) -> Match | None:
    best: Match | None = None
    done, total = 0, len(keys) * sum(any(len(digest) == size for _, digest in readings) for _, size, _ in _HASHES)
    for name, size, digest_of in _HASHES:
        claimed = [(found, digest) for found, digest in readings if len(digest) == size]
        if not claimed:
            continue
        of_hash = () if name == _HASHES[0][0] else (Deviation(f"the digest is {name}", Place.SENDER, _USE_HMAC),)
        for key, of_key, secret in keys:
            on_progress(done, total)
            done += 1
            key_deviations = tuple(one for one in (key.deviation, of_key) if one is not None)
            for of_body, body in bodies:
                deviations = (*of_hash, *key_deviations, *((of_body,) if of_body else ()))
                if limit is not None and len(deviations) > limit:
                    continue
                computed = digest_of(secret, body)
                for of_header, digest in claimed:
                    if hmac.compare_digest(computed, digest):
                        found = Match(key.name, (*of_header, *deviations))
                        if best is None or len(found.deviations) < len(best.deviations):
                            best = found
    return best
