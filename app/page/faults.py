"""What the page says no to. Each has a status and a sentence; a page shows it in the visitor's language."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from markupsafe import Markup

from app.errors import PosSyncError
from app.page.rendering import later, translations_of
from app.visible_text import as_seen

Said = Callable[[str], str]
"""Translates"""
_QUOTED = "%(quoted)s"


class Ours:
    """A value that is words of ours, with values of its own: translated where it is shown."""

    def __init__(self, words: str, **values: object) -> None:
        self.words, self.values = words, values


class English(str):
    """A value that is English in each language, and marked so."""

    __slots__ = ()


class PageFault(PosSyncError):
    """Shown as a page. `problem` names its `values` as %(name)s, and is translated before they are filled in."""

    frame: ClassVar[str] = "%(problem)s"

    def __init__(self, problem: str = "", **values: object) -> None:
        self._said = Ours(self.frame, problem=Ours(problem or self.text, **values))
        super().__init__(self.spoken(translations_of("en").gettext))

    def spoken(self, said: Said) -> str:
        """The sentence."""
        return _spoken(self._said, said)

    def shown(self, said: Said) -> Markup:
        """The sentence for a page, where what is `English` is marked."""
        return _shown(self._said, said)


def _spoken(one: Ours, said: Said) -> str:
    filled = {name: _spoken(value, said) if isinstance(value, Ours) else value for name, value in one.values.items()}
    return said(one.words) % filled if filled else said(one.words)


def _shown(value: object, said: Said) -> Markup:
    if isinstance(value, Ours):
        words = Markup.escape(said(value.words))
        return words % {name: _shown(one, said) for name, one in value.values.items()} if value.values else words
    seen = as_seen(str(value))
    return Markup('<span lang="en">{}</span>').format(seen) if isinstance(value, English) else Markup.escape(seen)


def named(state: object, states: Mapping[Any, str]) -> object:
    """The words of a state, or what was given, where it is none."""
    return Ours(states[state]) if state in states else as_seen(str(state))


class NotLoggedIn(PageFault):
    """The login comes first, and then what was asked for."""

    status = HTTPStatus.UNAUTHORIZED
    reason = "not_logged_in"
    text = later("Log in first.")

    def __init__(self, asked_for: str) -> None:
        super().__init__()
        self.asked_for = asked_for


class PlainHttp(PageFault):
    """A password would be readable on its way."""

    status = HTTPStatus.FORBIDDEN
    reason = "plain_http"
    text = later(
        "This page is used over https, or on the machine itself by the name localhost: passwords could be read on their way. "
        "Put a proxy with TLS in front of it, or set OPERATOR_PLAIN_HTTP=true in a network that you trust."
    )


class NotAllowed(PageFault):
    """A viewer wants to change something, or the page is read-only."""

    status = HTTPStatus.FORBIDDEN
    reason = "not_allowed"
    frame = "%(problem)s."


class FormRefused(PageFault):
    """Nothing was done: the form did not come from this page, or not from this visitor."""

    status = HTTPStatus.BAD_REQUEST
    reason = "form_refused"
    frame = later("Nothing was done. The form was refused. %(problem)s.")


class WrongField(PageFault):
    """Something that was typed cannot be used."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "wrong_field"
    frame = later("Nothing was done. %(problem)s.")


class Changed(PageFault):
    """What was confirmed is not as it was shown; `problem` says what, in the middle of a sentence."""

    status = HTTPStatus.CONFLICT
    reason = "changed"
    frame = later("Nothing was done: %(problem)s. Look at it again.")


class NothingThere(PageFault):
    """What the address names does not exist; `problem` names it."""

    status = HTTPStatus.NOT_FOUND
    reason = "nothing_there"
    frame = later("There is no %(problem)s.")


def quoting(error: Exception) -> WrongField:
    """What a use case says no to, in its English words."""
    return WrongField(_QUOTED, quoted=English(str(error).removesuffix(".")))
