"""What the page says no to. Each has a status and a sentence; a page shows it in the visitor's language."""

from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar

from app.errors import PosSyncError
from app.page.rendering import later

Said = Callable[[str], str]
"""Translates"""


def _in_english(words: str) -> str:
    return words


class PageFault(PosSyncError):
    """Shown as a page. `problem` names its `values` as %(name)s, and is translated before they are filled in."""

    frame: ClassVar[str] = "%(problem)s"

    def __init__(self, problem: str = "", **values: object) -> None:
        self._problem, self._values = problem or self.text, values
        super().__init__(self.spoken(_in_english))

    def spoken(self, said: Said) -> str:
        """The sentence."""
        problem = said(self._problem)
        return said(self.frame) % {"problem": problem % self._values if self._values else problem}


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
