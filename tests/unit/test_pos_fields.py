"""The time and the key of a POS movement."""

from datetime import UTC, datetime

import pytest

from app.stock.text import parse_idempotency_header, parse_idempotency_key, parse_moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-30T12:45:03-05:00", datetime(2026, 5, 30, 17, 45, 3, tzinfo=UTC)),
        ("2026-05-30 12:45:03.250001Z", datetime(2026, 5, 30, 12, 45, 3, 250001, tzinfo=UTC)),
        ("1970-01-02T00:00:00Z", datetime(1970, 1, 2, tzinfo=UTC)),
        ("9998-12-31T23:59:59Z", datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("9999-01-01T01:00:00+05:00", datetime(9998, 12, 31, 20, tzinfo=UTC)),
    ],
)
def test_a_time_with_its_offset_is_read_in_utc(text: str, moment: datetime) -> None:
    assert moment == parse_moment(text)
    assert UTC is parse_moment(text).tzinfo


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "offset"),
        ("yesterday", "offset"),
        ("2026-05-30T12:45:03", "offset"),
        ("2026-13-30T12:45:03Z", "offset"),
        ("0001-01-01T00:00:00+05:00", "after 1970"),
        ("9999-12-31T23:59:59-05:00", "after 1970"),
        ("0500-01-01T00:00:00Z", "after 1970"),
        ("1970-01-01T23:59:59Z", "after 1970"),
        ("9999-01-01T00:00:00Z", "after 1970"),
    ],
)
def test_another_time_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_moment(text)


@pytest.mark.parametrize("key", ["a", "ticket-7", "ticket 7 of 2026", "!~", "x" * 255])
def test_a_key_is_visible_ascii_with_blanks_inside(key: str) -> None:
    assert key == parse_idempotency_key(key)


@pytest.mark.parametrize("key", ["", " ", " a", "a ", "a\n", "a\tb", "\u043a\u043b", "caf\u00e9", "a\x7fb", "x" * 256])
def test_another_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 visible ASCII"):
        parse_idempotency_key(key)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("k1", "k1"),
        ('"k1"', "k1"),
        ('"ticket 7 of 2026"', "ticket 7 of 2026"),
        (r'"a\"b\\c"', r'a"b\c'),
        (r'"\"k1\""', '"k1"'),
        (f'"{"x" * 255}"', "x" * 255),
        (r'"\\"', "\\"),
        # Without a quote at its beginning it is taken as it stands.
        ('k"1', 'k"1'),
        ('k1"', 'k1"'),
        (r"a\b", r"a\b"),
        ("'k1'", "'k1'"),
    ],
)
def test_a_key_in_a_header_is_the_same_with_quotes(header: str, key: str) -> None:
    assert key == parse_idempotency_header(header)


@pytest.mark.parametrize(
    "header",
    [
        '"',
        '""',
        '"abc',
        r'"a\x"',
        r'"a\"',
        '"a"b"',
        '"a" ',
        '"a";p=1',
        '"k1", "k2"',
        '" a"',
        '"a "',
        '"caf\u00e9"',
        f'"{"x" * 256}"',
        "",
    ],
)
def test_an_ill_formed_key_in_a_header_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match=r"double quote|1 to 255 visible ASCII"):
        parse_idempotency_header(header)


def test_a_key_of_the_command_line_is_taken_as_it_stands() -> None:
    assert '"k1"' == parse_idempotency_key('"k1"')
