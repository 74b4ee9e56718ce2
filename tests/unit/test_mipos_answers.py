import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.mipos.answers import Done, NeedsHuman, Transient, Unauthorized, read_answer
from app.mipos.token import SHORT_LIFE, Token, token_in

HTML = b"<html><style>b{}</style><script>alert(1)</script><body><h1>502 Bad Gateway</h1><p>nginx</p></body></html>"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"message": "Webhook successfully created.", "data": null}', Done("Webhook successfully created.")),
        (201, b'{"message": ["Order accepted.", "Thanks."], "data": {"id": 1}}', Done("Order accepted. Thanks.", {"id": 1})),
        (204, b"", Done("status 204, without a word")),
        (
            200,
            b"<p>Sign in to the guest network</p>",
            Transient("an answer that is not mipOS's: Sign in to the guest network", may_have_arrived=True),
        ),
        (200, b"[]", Transient("an answer that is not mipOS's: status 200, without a word", may_have_arrived=True)),
        (200, b"", Done("status 200, without a word")),
        (200, b'{"data": [1]}', Done("status 200, without a word")),
        (401, b'"Unauthorized."', Unauthorized("Unauthorized.")),
        (401, b"", Unauthorized("status 401, without a word")),
        (409, b'{"message": ["Invalid type."], "data": null}', NeedsHuman("Invalid type.", 409)),
        (409, b'{"message": "Invalid type.", "data": null}', NeedsHuman("Invalid type.", 409)),
        (409, b"[]", NeedsHuman("status 409, without a word", 409)),
        (422, b'{"url": ["The url field is required."]}', NeedsHuman("The url field is required.", 422)),
        (
            422,
            b'{"type": ["The type field is required.", "The selected type is invalid."], "url": ["The url field is required."]}',
            NeedsHuman("The type field is required. The selected type is invalid. The url field is required.", 422),
        ),
        (404, HTML, NeedsHuman("502 Bad Gateway nginx", 404)),
        (403, b'{"message": {"deep": {"er": "x"}}}', NeedsHuman("status 403, without a word", 403)),
        (301, b"", NeedsHuman("status 301, without a word", 301)),
        (500, b"", Transient("status 500, without a word", may_have_arrived=True)),
        (502, HTML, Transient("502 Bad Gateway nginx", may_have_arrived=True)),
        (503, b'{"message": "Be right back."}', Transient("Be right back.")),
        (429, b"slow down", Transient("slow down")),
        (408, b"null", Transient("null")),
    ],
)
def test_every_form_of_an_answer_is_understood(status: int, body: bytes, expected: object) -> None:
    assert expected == read_answer(status, body)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), (" 7 ", 7.0), (None, None), ("", None), ("-1", None), ("1e9", None), ("9" * 30, None),
     ("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)  # fmt: skip
def test_retry_after_is_seconds_or_nothing(header: str | None, seconds: float | None) -> None:
    assert Transient("status 503, without a word", seconds) == read_answer(503, b"", retry_after=header)


def test_a_secret_that_is_quoted_back_is_blacked_out() -> None:
    body = b'{"password": ["The password open sesame of secret-1 is wrong."]}'

    answer = read_answer(422, body, secrets=["open sesame", "secret-1"])

    assert NeedsHuman("The password *** of *** is wrong.", 422) == answer


@given(st.integers(100, 599), st.binary(max_size=300))
def test_no_answer_is_too_strange(status: int, body: bytes) -> None:
    words = read_answer(status, body).words

    assert words.isprintable()
    assert 0 < len(words) <= 340


@given(
    st.integers(100, 599),
    st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)),
)
def test_no_json_is_too_strange(status: int, document: Any) -> None:
    assert read_answer(status, json.dumps({"message": document}).encode()).words


NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expires_in", "expected"),
    [
        ("1585815796", datetime(2020, 4, 2, 8, 23, 16, tzinfo=UTC)),
        (1585815796, datetime(2020, 4, 2, 8, 23, 16, tzinfo=UTC)),
        ("3600", NOW + timedelta(hours=1)),
        (3600, NOW + timedelta(hours=1)),
        ("0", NOW),
        (None, NOW + SHORT_LIFE),
        ("", NOW + SHORT_LIFE),
        ("soon", NOW + SHORT_LIFE),
        ("-5", NOW + SHORT_LIFE),
        ("1e9", NOW + SHORT_LIFE),
        (True, NOW + SHORT_LIFE),
        ([], NOW + SHORT_LIFE),
        ("9" * 50, NOW + SHORT_LIFE),
        ("99999999999", NOW + SHORT_LIFE),
        ("٣٦٠٠", NOW + SHORT_LIFE),
    ],
)
def test_expires_in_is_an_absolute_time_or_seconds_or_short(expires_in: object, expected: datetime) -> None:
    token = token_in({"token": "abc", "expires_in": expires_in}, NOW)

    assert token == Token(SecretStr("abc"), expected)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"token": None},
        {"token": ""},
        {"token": " "},
        {"token": 7},
        {"token": "é"},
        {"token": "a\x00b"},
        {"token": "a b"},
        {"access_token": "x"},
    ],
)
def test_an_answer_without_a_token_is_none(data: dict[str, Any]) -> None:
    assert token_in(data, NOW) is None


def test_a_token_is_not_shown() -> None:
    assert "abc" not in repr(token_in({"token": "abc"}, NOW))
