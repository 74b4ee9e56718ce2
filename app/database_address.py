"""Where Postgres is: what `DATABASE_URL` and libpq's PG* variables say, read once and checked before anything connects."""

import ipaddress
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_PORT = 65535
DEFAULT_PORT = 5432
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TARGETS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
SYSTEM = "system"
"""The value of sslrootcert that stands for the machine's own certificate authorities."""

# The option of the URL, and the variable that stands for it where the URL does not name it.
_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslpassword": "PGSSLPASSWORD",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
}
VARIABLES = tuple(_VARIABLES.values())
_IGNORED = {
    "application_name",
    "channel_binding",
    "connect_timeout",
    "gssencmode",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "load_balance_hosts",
    "tcp_user_timeout",
}
"""What addresses of other programs may carry, and what this one decides by itself."""
_FORM = "postgresql://user:password@host:5432/database"


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


@dataclass(frozen=True, slots=True)
class Address:
    """One database, on the first of `hosts` that serves."""

    hosts: tuple[Host, ...]
    database: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    target: str = "any"
    """libpq's target_session_attrs"""
    sslmode: str = "prefer"
    files: Mapping[str, str] = field(default_factory=dict)
    """sslrootcert, sslcert, sslkey and passfile, where they are named"""
    key_password: str | None = field(default=None, repr=False)
    options: str | None = None
    """Settings of the session, as libpq writes them: -c name=value"""

    @property
    def shared_name(self) -> str:
        """Its servers in alphabetical order, and its name: the same text whatever the role, the password and the options."""
        return f"{','.join(sorted(map(str, self.hosts)))}/{self.database}"

    def driver_arguments(self) -> dict[str, Any]:
        """What asyncpg is given beside the host: who, which database, and how the connection is encrypted."""
        arguments: dict[str, Any] = {"user": self.user, "password": self.password, "database": self.database}
        if "passfile" in self.files:
            arguments["passfile"] = self.files["passfile"]
        if self.target != "any":
            arguments["target_session_attrs"] = self.target
        if self.options is not None:
            arguments["server_settings"] = {"options": self.options}
        return arguments

    def tls(self, host: Host) -> str | ssl.SSLContext | bool:
        """How a connection to `host` is encrypted: asyncpg's `ssl`."""
        if host.is_socket or self.sslmode == "disable":
            return False
        if not self._is_checked and "sslcert" not in self.files:
            return self.sslmode
        return self._context(host)

    @property
    def _is_checked(self) -> bool:
        # As libpq: with an authority, `require` means that it has to have signed.
        return self.sslmode.startswith("verify-") or (self.sslmode == "require" and "sslrootcert" in self.files)

    def _context(self, host: Host) -> ssl.SSLContext:
        context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
        context.name = host.name
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if self._is_checked else ssl.CERT_NONE
        if self._is_checked:
            context.check_hostname = self.sslmode == "verify-full"
            authorities = self.files["sslrootcert"]
            if authorities == SYSTEM:
                context.load_default_certs()
            else:
                context.load_verify_locations(cafile=authorities)
        if "sslcert" in self.files:
            context.load_cert_chain(self.files["sslcert"], self.files.get("sslkey"), self.key_password)
        return context


class _NamedContext(ssl.SSLContext):
    """Checks the certificate for the name in the address, also where the connection is made to one of its IP addresses."""

    name: str

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - as the base class
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        del server_hostname
        return super().wrap_bio(incoming, outgoing, server_side, self.name, session)


def read_address(text: str, environment: Mapping[str, str] = os.environ, *, of_standby: bool = False) -> Address:
    """What `text` says, and where it says nothing, libpq's variables in `environment`.

    `text` is libpq's URL; a driver after a plus is left out. Several hosts are named as h1:5432,h2:5432, or by `host` and `port`.
    With `of_standby` it leads to a standby only, so a primary among the hosts is passed by.

    Raises:
        ValueError: it can never lead to a database. The message shows nothing of it but names of hosts, options and files.
    """
    try:
        parts = urlsplit(text)
        options = _options(parts.query)
    except ValueError:
        raise ValueError(f"must look like {_FORM} (special characters as %XX)") from None
    if parts.scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise ValueError(f"must look like {_FORM}")
    if parts.fragment:
        raise ValueError(f"holds a # that ends it; in a password it is written as %23. It must look like {_FORM}")
    unknown = sorted(options.keys() - _VARIABLES.keys() - _IGNORED)
    if unknown:
        raise ValueError(f"has options that are not known here: {', '.join(unknown)}")
    for name, variable in _VARIABLES.items():
        if of_standby and name == "target_session_attrs":
            # It is meant for DATABASE_URL.
            continue
        if name not in options and environment.get(variable):
            options[name] = [environment[variable]]
    account, _, listed = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    database = unquote(parts.path.removeprefix("/")) or _one(options, "dbname")
    if not database:
        raise ValueError(f"names no database: {_FORM}")
    hosts = _hosts(listed, options)
    return Address(
        hosts=hosts,
        database=database,
        user=unquote(user) or _one(options, "user"),
        password=unquote(password) or _one(options, "password"),
        target=_standby_target(options) if of_standby else _target(options, count=len(hosts)),
        options=_one(options, "options"),
        **_tls(options),
    )


def _options(query: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=False, strict_parsing=bool(query)):
        found.setdefault(name, []).append(value)
    return found


def _one(options: Mapping[str, list[str]], name: str) -> str | None:
    return options[name][-1] if name in options else None


def _hosts(listed: str, options: Mapping[str, list[str]]) -> tuple[Host, ...]:
    """The hosts of the URL's own place, or else those of `host`; a port belongs to its host, or is one of `port`."""
    named = [_split_port(name) for name in (listed.split(",") if listed else _items(options.get("host", [])) or ["localhost"])]
    ports = _items(options.get("port", []))
    if len(ports) not in {0, 1, len(named)}:
        raise ValueError(f"names {len(named)} hosts and {len(ports)} ports: name one port, or one for each host")
    hosts = []
    for place, (host, port) in enumerate(named):
        chosen = port or (ports[place if len(ports) > 1 else 0] if ports else "") or str(DEFAULT_PORT)
        if not chosen.isascii() or not chosen.isdigit():
            raise ValueError(f"must look like {_FORM}: the port is no number (special characters of a password as %XX)")
        if not 0 < int(chosen) <= MAX_PORT:
            raise ValueError(f"names a port that is not one (1 to {MAX_PORT})")
        hosts.append(Host(unquote(host) or "localhost", int(chosen)))
    return tuple(hosts)


def _items(values: Iterable[str]) -> list[str]:
    return [item for value in values for item in value.split(",")]


def _split_port(name: str) -> tuple[str, str]:
    if name.startswith("/"):
        return name, ""
    if name.startswith("["):
        host, closed, rest = name[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"must look like {_FORM}: an IPv6 address stands in brackets, [::1]:5432")
        return host, rest[1:]
    if name.count(":") > 1:
        return name, ""
    host, _, port = name.partition(":")
    return host, port


def _target(options: Mapping[str, list[str]], *, count: int) -> str:
    # One of several hosts is a standby, and nothing here works on one.
    target = _one(options, "target_session_attrs") or ("read-write" if count > 1 else "any")
    if target not in TARGETS:
        raise ValueError(f"has an unknown target_session_attrs; known are {', '.join(TARGETS)}")
    if target in {"read-only", "standby", "prefer-standby"}:
        raise ValueError("asks for a standby (target_session_attrs), and this service writes: use read-write")
    return target


def _standby_target(options: Mapping[str, list[str]]) -> str:
    target = _one(options, "target_session_attrs") or "standby"
    if target not in TARGETS:
        raise ValueError(f"has an unknown target_session_attrs; known are {', '.join(TARGETS)}")
    if target in {"read-write", "primary"}:
        raise ValueError("asks for a primary (target_session_attrs), and only a standby is read from: leave it out")
    return "standby"


def _tls(options: Mapping[str, list[str]]) -> dict[str, Any]:
    files = {name: found for name in ("sslrootcert", "sslcert", "sslkey", "passfile") if (found := _one(options, name))}
    # As libpq: the machine's own authorities are of use only where names are checked.
    mode = _one(options, "sslmode") or ("verify-full" if files.get("sslrootcert") == SYSTEM else "prefer")
    if mode not in SSL_MODES:
        raise ValueError(f"has an unknown sslmode; known are {', '.join(SSL_MODES)}")
    if mode.startswith("verify-"):
        files.setdefault("sslrootcert", str(Path("~/.postgresql/root.crt").expanduser()))
    if files.get("sslrootcert") == SYSTEM and mode != "verify-full":
        raise ValueError("has sslrootcert=system, which needs sslmode=verify-full")
    for name, path in files.items():
        if path != SYSTEM:
            _require_readable(name, path)
    if "sslkey" in files and "sslcert" not in files:
        raise ValueError("names an sslkey without an sslcert")
    key_password = _one(options, "sslpassword")
    address = Address((), "", sslmode=mode, files=files, key_password=key_password)
    try:
        address.tls(Host("localhost"))
    except (ssl.SSLError, OSError):
        raise ValueError(
            f"names files that are no certificates, or no key that fits: {', '.join(path for path in files.values())}"
        ) from None
    return {"sslmode": mode, "files": files, "key_password": key_password}


def _require_readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        hint = " Use sslrootcert=system for the authorities of this machine." if name == "sslrootcert" else ""
        raise ValueError(f"names a file for {name} that cannot be read ({path}: {error.strerror}).{hint}") from None
