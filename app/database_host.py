"""The servers that `DATABASE_URL` names: what may be one, and which port belongs to which."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

MAX_PORT = 65535
DEFAULT_PORT = 5432
FORM = "postgresql://user:password@host:5432/database"
_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class Host:
    """A server: a name or address and its port, or the folder of a Unix socket."""

    name: str
    port: int = DEFAULT_PORT

    @property
    def is_socket(self) -> bool:
        """Whether `name` is a folder with a socket in it."""
        return self.name.startswith("/")

    @property
    def is_near(self) -> bool:
        """Whether it is on this machine, or by its name without dots a neighbour of its, as in Compose."""
        try:
            return ipaddress.ip_address(self.name).is_loopback
        except ValueError:
            return self.is_socket or "." not in self.name

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{name}/.s.PGSQL.{self.port}" if self.is_socket else f"{name}:{self.port}"


def read_hosts(listed: str, options: Mapping[str, list[str]], *, default_port: str | None = None) -> tuple[Host, ...]:
    """Those of the option `host`, or else those of the URL's own place, `listed`; `port` goes before the ports that stand there.

    Raises:
        ValueError: one of them can be no server. The message shows nothing of it, which may be a part of a password.
    """
    own = [_split_port(name) for name in listed.split(",")] if listed else []
    named = [_split_port(name) for name in _items(options.get("host", []))] or own or [("", "")]
    ports = _items(options.get("port", [])) or ([port for _, port in own] if "host" in options else [])
    spare = _items([default_port] if default_port else [])
    for given in (ports, spare):
        if len(given) not in {0, 1, len(named)}:
            raise ValueError(f"names {len(named)} hosts and {len(given)} ports: name one port, or one for each host")
    return tuple(
        Host(_require_name(unquote(name) or "localhost"), _require_port(_of(ports, place) or port or _of(spare, place)))
        for place, (name, port) in enumerate(named)
    )


def _of(ports: Sequence[str], place: int) -> str:
    return ports[place if len(ports) > 1 else 0] if ports else ""


def _require_port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"must look like {FORM}: the port is no number (special characters of a password as %XX)")
    if not 0 < int(text) <= MAX_PORT:
        raise ValueError(f"names a port that is not one (1 to {MAX_PORT})")
    return int(text)


def _items(values: Sequence[str]) -> list[str]:
    """Those of a list that may be written with commas, and more than once."""
    return [item for value in values for item in value.split(",")]


def _require_name(host: str) -> str:
    if not host.startswith("/") and not _may_be_one(host):
        words = "a host has an empty or too long part, or a character that no name has (special characters of a password as %XX)"
        raise ValueError(f"must look like {FORM}: {words}")
    return host


def _may_be_one(host: str) -> bool:
    try:
        if ":" in host:
            ipaddress.IPv6Address(host)
        else:
            host.encode("idna")
    except ValueError:
        return False
    return ":" in host or _NAME.fullmatch(host) is not None


def _split_port(name: str) -> tuple[str, str]:
    if name.startswith("/"):
        return name, ""
    if name.startswith("["):
        host, closed, rest = name[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"must look like {FORM}: an IPv6 address stands in brackets, [::1]:5432")
        return host, rest[1:]
    if name.count(":") > 1:
        return name, ""
    host, _, port = name.partition(":")
    return host, port
