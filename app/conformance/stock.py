"""Reading the stock of a receiver, by a command or a URL of its own."""

import json
import os
import ssl
import subprocess
from collections.abc import Callable, Mapping
from decimal import Decimal
from urllib.parse import quote

import httpx2

STOCK_SECONDS = 30
OUR_PATH = "/pos/stores/{store}/stock?item_id={item}"
OUR_FIELD = "stock.0.stock"
"""Where this service tells the stock of an item"""
_SHOWN = 100

ReadStock = Callable[[], Decimal]


class StockNotRead(Exception):
    """The stock could not be read; the message says why."""


def stock_by_command(command: str, names: Mapping[str, str]) -> ReadStock:
    """Reads the number that a shell command prints. STORE, ITEM, SYSTEM and POS are in its environment."""
    variables = {**os.environ, **{name.upper(): value for name, value in names.items()}}

    def read() -> Decimal:
        try:
            done = subprocess.run(  # noqa: S602 - it is the caller's own command line
                command, shell=True, env=variables, capture_output=True, text=True, timeout=STOCK_SECONDS, check=True
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise StockNotRead(f"The command that reads the stock failed: {error}") from error
        return _number(done.stdout.strip(), "The command that reads the stock")

    return read


def stock_by_url(template: str, names: Mapping[str, str], *, field: str | None, authorization: str | None) -> ReadStock:
    """Reads the number that GET answers: the body, or `field` of its JSON, such as stock.0.stock.

    {store}, {item}, {system} and {pos} in the template become the names. A list that is empty means 0.
    """
    url = template
    for name, value in names.items():
        url = url.replace(f"{{{name}}}", quote(value, safe=""))
    headers = {"Authorization": authorization} if authorization else {}
    # Once: to read all certificates takes longer than to ask.
    context = ssl.create_default_context()

    def read() -> Decimal:
        try:
            answer = httpx2.get(url, headers=headers, timeout=STOCK_SECONDS, trust_env=False, verify=context)
            answer.raise_for_status()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise StockNotRead(f"The stock cannot be read: {error}") from error
        return _number(answer.text.strip() if field is None else _at(answer.text, field), url)

    return read


def _at(text: str, field: str) -> str:
    # Numbers stay as they are written.
    try:
        found = json.loads(text, parse_float=str, parse_int=str)
        for part in field.split("."):
            if isinstance(found, list):
                if not found:
                    return "0"
                found = found[int(part)]
            else:
                found = found[part]
    except (ValueError, KeyError, IndexError, TypeError):
        raise StockNotRead(f"The answer has no field {field}: {text[:_SHOWN]!r}") from None
    return str(found)


def _number(text: str, who: str) -> Decimal:
    try:
        number = Decimal(text)
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite():
        raise StockNotRead(f"{who} tells no number as the stock: {text[:_SHOWN]!r}")
    return number
