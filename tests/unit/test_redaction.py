"""No secret comes back in mipOS's words, however an error page writes it."""

import base64
import html
import json
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.mipos.answers import NeedsHuman, Transient, read_answer
from app.mipos.redaction import MASK, documented, redact

SECRET = "Pa<ss&w\"or'd/ é+1"
PLAIN = "9468hanqztrwoxpwq0lab2"
WRITERS = {
    "itself": lambda text: text,
    "html": html.escape,
    "html of PHP": lambda text: html.escape(text).replace("&#x27;", "&#039;"),
    "html that leaves apostrophes": lambda text: html.escape(text, quote=False),
    "html of numbers": lambda text: "".join(f"&#{ord(one)};" for one in text),
    "url": lambda text: quote(text, safe=""),
    "url with slashes": quote,
    "url in small letters": lambda text: quote(text, safe="").lower(),
    "form": quote_plus,
    "json": json.dumps,
    "json of PHP": lambda text: json.dumps(text).replace("/", r"\/"),
    "json in its own characters": lambda text: json.dumps(text, ensure_ascii=False),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "hexadecimal": lambda text: text.encode().hex(),
    "json in html": lambda text: html.escape(json.dumps({"password": text})),
    "url in html": lambda text: html.escape(urlencode({"a": text, "b": 1})),
}


@pytest.mark.parametrize("secret", [SECRET, PLAIN])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_secret_is_blacked_out_in_every_form_in_which_pages_print_it(write: object, secret: str) -> None:
    assert callable(write)
    written = write(secret)
    shown = redact(f"before {written} after", [secret])

    assert MASK in shown
    assert secret not in shown
    # Only what the form has around a value is left.
    assert len(shown) <= len(f"before {written} after") - len(secret) + len(MASK)


@pytest.mark.parametrize("before", ["", "c", "cl", "client:", "a longer client:"])
@pytest.mark.parametrize("after", ["", ":", ":end"])
def test_a_secret_is_blacked_out_of_the_base64_of_a_longer_text(before: str, after: str) -> None:
    encoded = base64.b64encode((before + PLAIN + after).encode()).decode()
    left = redact(encoded, [PLAIN]).replace(MASK, "")

    # What is left are the texts around it, and two characters that they share with it.
    assert len(left) <= (len(before) + len(after)) * 4 / 3 + 8


@settings(deadline=None, max_examples=40)
@given(st.text(min_size=8, max_size=60), st.sampled_from(sorted(WRITERS)))
def test_whatever_the_secret_is(secret: str, form: str) -> None:
    try:
        written = WRITERS[form](secret)  # type: ignore[no-untyped-call]
    except UnicodeEncodeError:
        return
    assert secret not in redact(f"x{written}x", [secret])


@pytest.mark.parametrize("status", [409, 500])
def test_a_page_that_quotes_the_request_shows_none_of_it(status: int) -> None:
    request = json.dumps({"client_secret": PLAIN, "password": SECRET})
    page = f"<html><title>Whoops</title><pre>{html.escape(request)}</pre><code>{quote_plus(SECRET)}</code></html>"
    answer = read_answer(status, page.encode(), secrets=[PLAIN, SECRET])

    assert isinstance(answer, (NeedsHuman, Transient))
    assert "Whoops" in answer.words
    for part in (PLAIN, SECRET, "Pa", "ss&"):
        assert part not in answer.words.replace("Page", "")


def test_a_secret_on_the_edge_of_what_is_read_is_not_shown_in_part() -> None:
    body = ("x" * 5990 + PLAIN).encode()
    answer = read_answer(500, b"<b>" * 1990 + body[-30:], secrets=[PLAIN])

    assert PLAIN[:8] not in answer.words


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("Invalid credentials.", True),
        ("The email field is required. The password field is required.", True),
        ("Invalid credentials for a@b.c from 10.2.3.4", False),
        ("Invalid credentials. And more", False),
        ("", False),
    ],
)
def test_words_of_a_token_call_are_kept_where_they_are_documented(words: str, *, kept: bool) -> None:
    assert kept is (documented(words, 409) == words)
    assert "10.2.3.4" not in documented(words, 409)
