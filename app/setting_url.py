"""What the settings that are URLs may be."""

import ipaddress
import re
from urllib.parse import unquote, urlsplit

from app.scope import WEBHOOK_PATH

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_NEIGHBOUR = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""A name without dots, of a service in one Compose file or pod"""
_LOCAL = ("localhost", ".localhost")
_MIPOS_PATH = "/api"
"""How the path of each call to mipOS begins"""


def base_url(value: str) -> str:
    """A base address without the slash at its end; nothing in it that a path could not follow."""
    try:
        parts = urlsplit(value)
        is_base = parts.scheme in {"https", "http"} and _is_host(parts.hostname or "") and parts.port != 0
        is_base = is_base and parts.username is None and "//" not in parts.path
    except ValueError:
        is_base = False
    if not is_base or not value.isprintable() or any(character in value for character in "?# "):
        raise ValueError("must look like https://pos.example.com")
    return value.rstrip("/")


def any_url(value: str) -> str:
    """An address with path and query, as monitors give them."""
    base_url(value.partition("?")[0])
    return value


def public_url(value: str) -> str:
    """A base address that mipOS can call."""
    base = base_url(value)
    parts = urlsplit(base)
    address = _address(parts.hostname or "")
    if address is not None and address.is_unspecified:
        raise ValueError("is an address to listen on, which nobody can call. Write the one that mipOS calls")
    path = unquote(parts.path)
    if path.lower().endswith(WEBHOOK_PATH):
        while path.lower().endswith(WEBHOOK_PATH):
            path = path[: -len(WEBHOOK_PATH)].rstrip("/")
        raise ValueError(f"ends in the webhook's own path, which is added to it. Write {parts.scheme}://{parts.netloc}{path}")
    return base


def mipos_url(value: str) -> str:
    """MipOS's base address: the client secret goes there."""
    base = base_url(value)
    parts = urlsplit(base)
    host = parts.hostname or ""
    if parts.scheme == "http" and not _is_loopback(host) and not _NEIGHBOUR.fullmatch(host):
        raise ValueError("would send the client secret and the password unencrypted. Write https://")
    if f"{parts.path}/".startswith(f"{_MIPOS_PATH}/"):
        raise ValueError(
            f"holds a part of the path of mipOS's calls, which is added to it. Write {parts.scheme}://{parts.netloc}"
        )
    return base


def _is_host(name: str) -> bool:
    """Whether it is an address, or a name in ASCII whose parts are such as DNS has."""
    if _address(name) is not None:
        return True
    labels = name.removesuffix(".").split(".")
    # A number alone is an IPv4 address in a form that hides it.
    return all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address.is_loopback if address is not None else f".{host.removesuffix('.')}".endswith(_LOCAL)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
