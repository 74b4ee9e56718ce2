"""Locations of this page: where a visitor is, came from, or wants to go; never anywhere else."""

from urllib.parse import quote, urlsplit

from fastapi import Request


def asked_for(request: Request) -> str:
    """Where to go after the login: as it was sent, since ids are encoded in it."""
    if request.method != "GET":
        return "/ui/"
    query = request.scope["query_string"].decode("ascii", "ignore")
    return request.scope["raw_path"].decode("ascii", "ignore") + (f"?{query}" if query else "")


def location_of(request: Request) -> str:
    """The address of this page; of what was sent by a form, that of the page with the form."""
    if request.method == "GET":
        return asked_for(request)
    referer = urlsplit(request.headers.get("referer", ""))
    return safe_location(referer.path + (f"?{referer.query}" if referer.query else ""))


def safe_location(location: str) -> str:
    """A location of this page; anything else is its overview."""
    parts = urlsplit(location)
    is_ours = not parts.scheme and not parts.netloc and (parts.path == "/ui" or parts.path.startswith("/ui/"))
    return quote(location, safe="/?&=%:;,+~-._") if is_ours and "\\" not in location else "/ui/"
