"""Unsigned, wrongly signed and rightly signed nonsense: never a 5xx, always a message, stock and ledger unmoved."""

import gzip
from decimal import Decimal
from typing import Any

import httpx2

from tests.support.bodies import NOT_PARSEABLE
from tests.support.sender import MISSING, PATH, SECRET, body_of, signed
from tests.support.world import World

BODY = body_of()
RIGHT = signed(BODY)["X-Signature-Request"]


def literal(field: str, text: bytes) -> bytes:
    """The documented body with `text` as the JSON of `field`."""
    return body_of(**{field: "@"}).replace(b'"@"', text)


UNSIGNED: dict[str, tuple[bytes, dict[str, Any]]] = {
    "no signature": (BODY, {"X_Signature_Request": None}),
    "empty signature": (BODY, {"X_Signature_Request": ""}),
    "wrong secret": (BODY, {"secret": "not the secret at all"}),
    "empty secret": (BODY, {"secret": ""}),
    "hex-decoded secret": (BODY, {"secret": bytes.fromhex(SECRET).decode("latin-1")}),
    "first half only": (BODY, {"X_Signature_Request": RIGHT[:32]}),
    "one digit short": (BODY, {"X_Signature_Request": RIGHT[:-1]}),
    "one digit long": (BODY, {"X_Signature_Request": RIGHT + "0"}),
    "with a prefix": (BODY, {"X_Signature_Request": "sha256=" + RIGHT}),
    "reversed": (BODY, {"X_Signature_Request": RIGHT[::-1]}),
    "not hex": (BODY, {"X_Signature_Request": "z" * 64}),
    "a list": (BODY, {"X_Signature_Request": f"{RIGHT}, {RIGHT}"}),
    "two headers": (BODY, {"twice": True}),
    "very long": (BODY, {"X_Signature_Request": "a" * 10000}),
    "latin-1": (BODY, {"X_Signature_Request": "é" * 64}),
    "null": (BODY, {"X_Signature_Request": "null"}),
    "sql": (BODY, {"X_Signature_Request": "' OR 1=1 --"}),
    "another header": (BODY, {"X_Signature_Request": None, "Signature_Webhook": RIGHT}),
    "a bearer token": (BODY, {"X_Signature_Request": None, "Authorization": f"Bearer {RIGHT}"}),
    "a space added to the body": (BODY + b" ", {"X_Signature_Request": RIGHT}),
    "one byte changed": (BODY.replace(b"1.25", b"9.25"), {"X_Signature_Request": RIGHT}),
    "empty body, right signature of another": (b"", {"X_Signature_Request": RIGHT}),
    "not json": (b"<xml/>", {"X_Signature_Request": RIGHT}),
    "deep": (b"[" * 60000, {"X_Signature_Request": RIGHT}),
}
REFUSED_BY_HEADERS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "gzip": (gzip.compress(BODY), {"Content_Encoding": "gzip"}),
    "gzip bomb": (gzip.compress(b"0" * 10_000_000), {"Content_Encoding": "gzip"}),
    "deflate": (BODY, {"Content_Encoding": "deflate"}),
    "two encodings": (BODY, {"Content_Encoding": "identity, gzip"}),
    "too large": (b"x" * 70000, {}),
    "a lie about its length, too large": (BODY, {"Content_Length": "99999999999999999999999999"}),
}
SIGNED_NONSENSE: dict[str, bytes] = {
    **NOT_PARSEABLE,
    "true as quantity": literal("quantity", b"true"),
    "huge exponent": literal("quantity", b"1e999999999"),
    "huge exponent as text": literal("quantity", b'"1e999999999"'),
    "huge negative exponent": literal("quantity", b"1e-999999999"),
    "5000 digits": literal("quantity", b"9" * 5000),
    "30 digits": literal("quantity", b"9" * 30),
    "infinity as text": literal("quantity", b'"Infinity"'),
    "nan as text": literal("quantity", b'"NaN"'),
    "signalling nan": literal("quantity", b'"sNaN"'),
    "arabic digits": literal("quantity", '"٣"'.encode()),
    "fullwidth digits": literal("quantity", '"１２"'.encode()),
    "underscores": literal("quantity", b'"1_000"'),
    "decimal comma": literal("quantity", b'"1,25"'),
    "spaces inside": literal("quantity", b'"1 000"'),
    "negative quantity": literal("quantity", b'"-1"'),
    "rounded up out of bounds": literal("quantity", b"999999999999999.999999999999999"),
    "finer than any float": literal("quantity", b"1e-1000"),
    "a list of quantities": literal("quantity", b"[1]"),
    "quantity missing": body_of(quantity=MISSING),
    "quantity null": literal("quantity", b"null"),
    "stock nan": literal("current_stock", b'"NaN"'),
    "stock 1e400": literal("current_stock", b"1e400"),
    "type 3": literal("movement_type", b"3"),
    "type 1.0": literal("movement_type", b"1.0"),
    "type true": literal("movement_type", b"true"),
    "type 0": literal("movement_type", b"0"),
    "type huge": literal("movement_type", b"9" * 100),
    "nul in an id": literal("external_id", b'"a\\u0000b"'),
    "nul in a store": literal("store_id", b'"\\u0000"'),
    "lone surrogate": literal("external_id", b'"\\ud800"'),
    "swapped surrogates": literal("external_id", b'"\\udc00\\ud800"'),
    "12 000 characters": literal("external_id", b'"' + b"x" * 12000 + b'"'),
    "blank id": literal("external_id", b'"  "'),
    "an object as id": literal("external_id", b'{"$ne":null}'),
    "a float as store": literal("store_id", b"1.0"),
    "a bool as store": literal("store_id", b"true"),
    "a negative store": literal("store_id", b"-1"),
    "sql in an id": literal("external_id", b'"\'; DROP TABLE pos_sync.stock_level; --"'),
    "a format string": literal("external_id", b'"%s%n{0}"'),
    "right-to-left override": literal("external_id", '"\u202eabc"'.encode()),
    "zero width": literal("external_id", '"avcc\u200b123"'.encode()),
    "decomposed accent": literal("external_id", '"cafe\u0301"'.encode()),
    "unknown store": literal("store_id", b"2147483648"),
    "store with leading zero": literal("store_id", b'"01"'),
    "store with a space": literal("store_id", b'" 1"'),
    "item in other case": literal("external_id", b'"AVCC123"'),
    "unknown system": literal("inventory_system_id", b'"x"'),
    "system of another store": literal("inventory_system_id", b'"3d40a24e-d570-4598-ae68-e20687edd1f9"'),
    "date a number": literal("date", b"1590842703"),
    "date too long": literal("date", b'"' + b"2" * 65 + b'"'),
    "now missing": body_of(now=MISSING),
    "now a list": literal("now", b"[]"),
    "ten thousand keys": b'{"a":1' + b"".join(b',"k%d":1' % n for n in range(6000)) + b"}",
    "overflows the level": literal("quantity", b'"999999999999999"').replace(b'"movement_type":2', b'"movement_type":1'),
}


def test_there_are_enough_of_them() -> None:
    assert 80 <= len(UNSIGNED) + len(REFUSED_BY_HEADERS) + len(SIGNED_NONSENSE)


async def post(client: httpx2.AsyncClient, body: bytes, changes: dict[str, Any]) -> httpx2.Response:
    """Send `body`, signed but for `changes`."""
    changes = dict(changes)
    twice, secret = changes.pop("twice", False), changes.pop("secret", SECRET) or "x"
    headers = [(n.encode(), v.encode("latin-1")) for n, v in signed(body, secret=secret, **changes).items()]
    if twice:
        headers.append((b"X-Signature-Request", b"0" * 64))
    return await client.post(PATH, content=body, headers=headers)


def assert_refused(answer: httpx2.Response, statuses: set[int], name: str) -> None:
    assert answer.status_code in statuses, name
    assert isinstance(answer.json()["message"], str), name
    assert answer.json()["message"], name


async def assert_unmoved_and_alive(world: World, client: httpx2.AsyncClient) -> None:
    assert Decimal("13.69") == await world.level()
    assert [] == await world.ledger()
    assert 204 == (await client.post(PATH, content=BODY, headers=signed(BODY))).status_code
    assert {} == await world.broken_invariants()


async def test_nothing_unsigned_gets_in_or_is_stored(world: World, client: httpx2.AsyncClient) -> None:
    for name, (body, changes) in UNSIGNED.items():
        assert_refused(await post(client, body, changes), {401}, name)

    assert [] == await world.refused()
    await assert_unmoved_and_alive(world, client)


async def test_what_is_too_large_or_compressed_is_refused_before_it_is_read(world: World, client: httpx2.AsyncClient) -> None:
    for name, (body, changes) in REFUSED_BY_HEADERS.items():
        assert_refused(await post(client, body, changes), {413, 415}, name)

    assert [] == await world.refused()
    await assert_unmoved_and_alive(world, client)


async def test_signed_nonsense_is_refused_and_kept(world: World, client: httpx2.AsyncClient) -> None:
    answers = {}
    for name, body in SIGNED_NONSENSE.items():
        answers[body] = await post(client, body, {})
        assert_refused(answers[body], {400, 409, 422}, name)

    kept = {row.raw_body: (row.status_code, row.message) for row in await world.refused()}
    assert {body: (answer.status_code, answer.json()["message"]) for body, answer in answers.items()} == kept
    await assert_unmoved_and_alive(world, client)
