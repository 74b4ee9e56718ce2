"""Which methods an address takes, as the header Allow lists them."""

from starlette.requests import Request
from starlette.routing import Match

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def allowed_methods(request: Request) -> str:
    """Those of all routes of the request's path: the router's own answer names those of the first one."""
    asked = {"type": "http", "path": request.scope["path"], "root_path": request.scope.get("root_path", ""), "headers": []}
    routes = request.app.routes
    return ", ".join(
        method for method in _METHODS if any(route.matches({**asked, "method": method})[0] is Match.FULL for route in routes)
    )
