"""Each usual mistake is found and named; what is none of them is not; and nothing of a key or a digest is told."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.receiving.explanation import Deviation, Explanation, NamedKey, Place, explain
from app.receiving.mipos_sender import php_json
from app.receiving.serialisation import serialisations
from app.receiving.signature import HEADER, sign
from tests.support.sender import SECRET, body_of

KEY = SECRET.encode()
OTHER = b"another-secret-of-the-account"
BODY = body_of(external_id="caf\u00e9/1", extra=1.50)
KEYS = [NamedKey("MIPOS_CLIENT_SECRET", KEY), NamedKey("MIPOS_CLIENT_SECRET_PREVIOUS", OTHER)]


def explained(signature: str, body: bytes = BODY, *, name: str = HEADER, keys: list[NamedKey] = KEYS) -> Explanation:
    return explain(body, [(name, signature)], keys)


def names_in(explanation: Explanation) -> list[str]:
    assert explanation.match is not None
    return [deviation.name for deviation in explanation.match.deviations]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (KEY + b"\n", "the secret with a line feed after it"),
        (KEY + b"\r\n", "a carriage return and a line feed after it"),
        (b" " + KEY, "a blank before it"),
        (b"\xef\xbb\xbf" + KEY, "a byte order mark before it"),
        (bytes.fromhex(SECRET), "as hexadecimal"),
        (base64.b64decode(SECRET), "as base64"),
        (base64.b64encode(KEY), "encoded as base64"),
        (KEY.upper(), "in upper case"),
        (b"", "the key is empty"),
        (bytes.fromhex(SECRET.replace("9", "8")), None),
    ],
)
def test_a_wrong_key_is_named(key: bytes, expected: str | None) -> None:
    found = explained(sign(BODY, key))

    assert (expected is None) == (found.match is None)
    if expected is not None:
        (name,) = names_in(found)
        assert expected in name


@pytest.mark.parametrize("around", [" {}", "{}\n", "\ufeff{}"])
def test_a_secret_of_a_file_that_is_not_trimmed_is_found(around: str) -> None:
    given_key = NamedKey("file", around.format(SECRET).encode(), Deviation("the file's", Place.HERE, "Set it."))

    assert names_in(explained(sign(BODY, KEY), keys=[given_key]))


DIGEST = hmac.digest(KEY, BODY, "sha256")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (DIGEST.hex(), []),
        (DIGEST.hex().upper(), []),
        (f"sha256={DIGEST.hex()}", ["after sha256="]),
        (f"t=1700000000,v1={DIGEST.hex()}", ["after t=1700000000,v1="]),
        (f'"{DIGEST.hex()}"', ["blanks or quotes"]),
        (base64.b64encode(DIGEST).decode(), ["as base64"]),
        (base64.urlsafe_b64encode(DIGEST).decode().rstrip("="), ["as base64"]),
        (base64.b64encode(DIGEST.hex().encode()).decode(), ["as base64 of the hexadecimal digits"]),
        (f"sha256={base64.b64encode(DIGEST).decode()}", ["after sha256=", "as base64"]),
        (hmac.digest(KEY, BODY, "sha1").hex(), ["HMAC-SHA1"]),
        (hmac.digest(KEY, BODY, "sha512").hex(), ["HMAC-SHA512"]),
        (hashlib.sha256(KEY + BODY).hexdigest(), ["without HMAC"]),
    ],
)
def test_another_way_to_write_the_digest_is_named(header: str, expected: list[str]) -> None:
    found = names_in(explained(header))

    assert len(expected) == len(found)
    assert all(part in name for part, name in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("signed", "expected"),
    [
        (BODY + b"\n", "with a line feed at its end"),
        (b"", "nothing was signed"),
        (json.dumps(json.loads(BODY)).encode(), "blank after commas"),
        (json.dumps(json.loads(BODY), separators=(",", ":")).encode(), "slashes not"),
        (json.dumps(json.loads(BODY), separators=(",", ":"), ensure_ascii=False).encode(), "unescaped"),
        (json.dumps(json.loads(BODY), sort_keys=True, separators=(",", ":")).encode(), "sorted"),
        (json.dumps(json.loads(BODY), indent=4).encode() + b"\n", "JSON_PRETTY_PRINT"),
    ],
)
def test_another_body_that_was_signed_is_named(signed: bytes, expected: str) -> None:
    (name,) = names_in(explained(sign(signed, KEY)))

    assert expected in name


def test_a_body_that_was_written_again_on_the_way_is_found_as_php_wrote_it() -> None:
    arrived = json.dumps(json.loads(BODY), ensure_ascii=False).encode() + b"\n"

    (name,) = names_in(explained(sign(BODY, KEY), arrived))

    assert "compact, as PHP escapes it" in name


def test_the_previous_secret_another_header_two_headers_and_none() -> None:
    right = sign(BODY, KEY)
    twice = explain(BODY, [(HEADER, right), (HEADER, "x")], KEYS)

    previous = explained(sign(BODY, OTHER)).match
    assert previous is not None
    assert ("MIPOS_CLIENT_SECRET_PREVIOUS", ()) == (previous.key, previous.deviations)
    assert ["the header is named X-Hub-Signature-256"] == names_in(explained(right, name="X-Hub-Signature-256"))
    assert ["the header comes more than once"] == names_in(twice)
    assert "2 times" in twice.problems[0]
    assert "had no header" in explain(BODY, [], KEYS).problems[0]
    assert "is no digest: it has 3 characters" in explained("abc").problems[0]


def test_the_example_of_the_mipos_document_matches_nothing_and_says_what_was_tried() -> None:
    printed = "7c38c67ad234c4cdbe71425b5c961805ac3955d87de40d1d63e09f1f76d1ff61"

    found = explained(printed, body_of())

    assert found.match is None
    assert found.combinations > 1000
    tried = " ".join(name for names in found.tried.values() for name in names)
    assert all(word in tried for word in ("hexadecimal", "base64", "sha256=", "line feed", "PHP", "sorted", "unescaped", "upper"))


_JSON = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)


@settings(max_examples=30, deadline=None)
@given(_JSON, st.data())
def test_whatever_form_was_signed_is_found_with_any_key_and_header(document: dict[str, Any], data: st.DataObject) -> None:
    body = php_json(document)
    signed = data.draw(st.sampled_from([variant for _, variant in serialisations(body)]))
    key = data.draw(st.sampled_from([KEY, KEY + b"\n", bytes.fromhex(SECRET), OTHER]))
    header = data.draw(st.sampled_from(["{}", "sha256={}", "{} "])).format(sign(signed, key))

    assert explained(header, body).match is not None


@settings(deadline=None)
@given(_JSON)
def test_the_first_form_is_that_of_php(document: dict[str, Any]) -> None:
    # Also from a body that another program has written.
    _, first = next(serialisations(json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")))

    assert php_json(document) == first


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=100))
def test_no_body_and_no_header_is_too_odd(body: bytes, header: str) -> None:
    found = explained(header, body)

    assert found.match is None
    assert SECRET not in repr(found)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 40 + b"1" + b"}" * 40, b'{"a":' + b"9" * 5000 + b"}"])
def test_deep_and_long_documents_end(body: bytes) -> None:
    assert explained("0" * 64, body).match is None
