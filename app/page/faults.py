"""What the page says no to. Each has a status and a sentence; a page shows them."""

from http import HTTPStatus

from app.errors import PosSyncError


class PageFault(PosSyncError):
    """Shown as a page."""


class NotLoggedIn(PageFault):
    """The login comes first, and then what was asked for."""

    status = HTTPStatus.UNAUTHORIZED
    reason = "not_logged_in"
    text = "Log in first."

    def __init__(self, asked_for: str) -> None:
        super().__init__()
        self.asked_for = asked_for


class PlainHttp(PageFault):
    """A password would be readable on its way."""

    status = HTTPStatus.FORBIDDEN
    reason = "plain_http"
    text = (
        "This page is used over https, or on the machine itself: passwords could be read on their way. Put a proxy with TLS in "
        "front of it, or set OPERATOR_PLAIN_HTTP=true in a network that you trust."
    )


class NotAllowed(PageFault):
    """A viewer wants to change something, or the page is read-only."""

    status = HTTPStatus.FORBIDDEN
    reason = "not_allowed"

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}.")


class FormRefused(PageFault):
    """Nothing was done: the form did not come from this page, or not from this visitor."""

    status = HTTPStatus.BAD_REQUEST
    reason = "form_refused"

    def __init__(self, problem: str) -> None:
        super().__init__(f"Nothing was done. The form was refused: {problem[:1].lower()}{problem[1:]}.")


class WrongField(PageFault):
    """Something that was typed cannot be used."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "wrong_field"

    def __init__(self, problem: str) -> None:
        super().__init__(f"Nothing was done. {problem}.")


class Changed(PageFault):
    """What was confirmed is not as it was shown."""

    status = HTTPStatus.CONFLICT
    reason = "changed"

    def __init__(self, what: str) -> None:
        super().__init__(f"Nothing was done: {what}. Look at it again.")


class NothingThere(PageFault):
    """What the address names does not exist."""

    status = HTTPStatus.NOT_FOUND
    reason = "nothing_there"

    def __init__(self, what: str) -> None:
        super().__init__(f"There is no {what}.")
