"""Exact quantities: decimals read from text, never through a float. Only what is finer than 14 decimals is rounded.

Bounds are those of the database's checks: below 10^15, at most 14 decimals. The field's senders cast floats to text,
so exponent forms ("1.0E-5") and the noise of floats ("12.139999999999999" for 12.44 - 0.3) occur
(docs/reference/mipos-api.md, "numbers as strings").
"""

import decimal
import re
from decimal import Decimal

MAX_DECIMALS = 14
MAX_INTEGER_DIGITS = 15
MAX_NUMBER_LENGTH = 64
ZERO = Decimal(0)

EXACT = decimal.Context(
    prec=MAX_INTEGER_DIGITS + MAX_DECIMALS + 8,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow, decimal.DivisionByZero],
)
"""Adds quantities within bounds without rounding; raises instead of rounding where a bound was missed."""

_STEP = Decimal(1).scaleb(-MAX_DECIMALS)
_ROUNDING = decimal.Context(
    prec=MAX_INTEGER_DIGITS + MAX_DECIMALS + 1,
    rounding=decimal.ROUND_HALF_EVEN,
    traps=[decimal.InvalidOperation],
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?([0-9]+))?")
_PLAIN_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,14})?")
"""What nearly every sender sends, and within every bound."""
_MAX_EXPONENT_DIGITS = 3


class NotAQuantity(ValueError):
    """The text is not a number that we can hold exactly; the message completes "The field quantity ..."."""


def parse_quantity(text: str) -> Decimal:
    """Read a plain or exponent number, sign allowed; "1.0E+3" becomes 1000, "5.50" keeps its two decimals.

    What has more than 14 decimals is rounded (`round_quantity`).

    Raises:
        NotAQuantity: for anything else: blank, commas, spaces, NaN, Infinity, other digits than 0 to 9, 10^15 or more.
    """
    if _PLAIN_NUMBER.fullmatch(text):
        return Decimal(text) or ZERO
    if len(text) > MAX_NUMBER_LENGTH:
        raise NotAQuantity(f"is longer than {MAX_NUMBER_LENGTH} characters")
    matched = _NUMBER.fullmatch(text)
    if matched is None:
        raise NotAQuantity('must be a number such as "1.25"')
    exponent_digits = matched.group(1)
    if exponent_digits is not None and len(exponent_digits) > _MAX_EXPONENT_DIGITS:
        # Looked at before it is expanded: written out, 1e999999999 is a memory bomb.
        raise NotAQuantity(f"must have an exponent of at most {_MAX_EXPONENT_DIGITS} digits")
    value = Decimal(text)
    if not value:
        return ZERO
    if value.adjusted() >= MAX_INTEGER_DIGITS:
        raise NotAQuantity(f"must be below 10^{MAX_INTEGER_DIGITS}")
    value = round_quantity(value)
    # Once more, since 999999999999999.999999999999999 is rounded up to 10^15.
    if value.adjusted() >= MAX_INTEGER_DIGITS:
        raise NotAQuantity(f"must be below 10^{MAX_INTEGER_DIGITS}")
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return Decimal(format(value, "f")) if exponent > 0 else value


def round_quantity(value: Decimal) -> Decimal:
    """`value`, which is below 10^15, rounded half-even where it has more than 14 decimals; then without zeros at its end.

    0 has no sign, also where a negative value was rounded to it.
    """
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent >= -MAX_DECIMALS:
        return value or ZERO
    return Decimal(to_canonical(value.quantize(_STEP, context=_ROUNDING)))


def require_unsigned(quantity: Decimal, *, why: str = "") -> Decimal:
    """Return `quantity`, which must not be negative; `why` says what the sign would double.

    Raises:
        NotAQuantity: it is negative.
    """
    if quantity.is_signed():
        raise NotAQuantity(f"must not be negative{why and ': '}{why}")
    return quantity


def to_plain(value: Decimal) -> str:
    """Digits without an exponent, decimals as they are: 5.50 stays "5.50"."""
    return format(value, "f")


def to_canonical(value: Decimal) -> str:
    """The one text of a number: no exponent, no trailing zeros, no negative zero; 1.250 and 1.25 are both "1.25"."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def to_signed(value: Decimal) -> str:
    """A change as people write it: its canonical text with a sign, "+" too; 0 has none."""
    text = to_canonical(value)
    return text if text.startswith("-") or text == "0" else f"+{text}"
