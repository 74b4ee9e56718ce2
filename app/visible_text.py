"""Text of others as a person may read it: what cannot be seen in it stands there as code points."""

import json
import shlex

MAX_SHOWN_LENGTH = 80


def shown(value: str) -> str:
    """Quote `value` for a message: cut to a length that a person reads, and what cannot be seen as code points (<U+00A0>)."""
    seen = as_seen(value[: MAX_SHOWN_LENGTH + 1])
    return f'"{seen}"' if len(seen) <= MAX_SHOWN_LENGTH else f'"{seen[: MAX_SHOWN_LENGTH - 1]}…"'


def as_seen(value: str) -> str:
    """`value` with what cannot be seen as code points, so that no terminal obeys it."""
    return value if value.isprintable() else "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in value)


def typed(value: str) -> str:
    """`value` as one word of a command line, for a remedy that a person copies into a shell."""
    return shlex.quote(as_seen(value))


def seen_lines(text: str) -> str:
    """`text` of several lines as `as_seen`, line by line."""
    return text if text.isprintable() else "\n".join(map(as_seen, text.split("\n")))


def to_seen_json(text: str) -> str:
    """JSON, of one line or indented, with what cannot be seen as escapes: it stays the same document."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
