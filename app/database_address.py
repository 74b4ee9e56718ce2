"""Where Postgres is: what `DATABASE_URL` and libpq's PG* variables say, read once and checked before anything connects."""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from app.database_host import FORM, Host, read_hosts

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
    "sslcrl": "PGSSLCRL",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
}
_CHOICES = {"PGSSLNEGOTIATION": ("postgres", "direct"), "PGGSSLIB": ("gssapi", "sspi")}
"""Read by the driver alone, which would say of others that the database refused"""
_PROTOCOLS = {name: ssl.TLSVersion[name.replace(".", "_")] for name in ("TLSv1.2", "TLSv1.3")}
_START = re.compile(r"postgres(ql)?(\+\w+)?://")
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
    """sslrootcert, sslcert, sslkey, sslcrl and passfile, where they are named"""
    protocols: tuple[ssl.TLSVersion | None, ssl.TLSVersion | None] = (None, None)
    """The oldest and the newest that may be spoken, where they are named"""
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
        has_own = "sslcert" in self.files or (self.sslmode == "require" and self.protocols != (None, None))
        if not self._is_checked and not has_own:
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
            if "sslcrl" in self.files:
                context.load_verify_locations(cafile=self.files["sslcrl"])
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if "sslcert" in self.files:
            context.load_cert_chain(self.files["sslcert"], self.files.get("sslkey"), self.key_password or _ask_nobody)
        oldest, newest = self.protocols
        context.minimum_version = oldest or context.minimum_version
        context.maximum_version = newest or context.maximum_version
        return context


class _NoKeyPassword(ValueError):
    """The key is encrypted, and nothing says how."""


def _ask_nobody() -> str:
    """For a key that is encrypted: OpenSSL would ask at the terminal, and wait."""
    raise _NoKeyPassword("names an sslkey that is encrypted: set its password as PGSSLPASSWORD")


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
    parts, options = _split(text)
    unknown = sorted(options.keys() - _VARIABLES.keys() - _IGNORED)
    if unknown:
        raise ValueError(f"has options that are not known here: {', '.join(unknown)}")
    account, _, listed = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    own = {"user": unquote(user), "password": unquote(password), "dbname": unquote(parts.path.removeprefix("/"))}
    # What follows goes with a host; the other is meant for DATABASE_URL.
    others = {"host", "port"} | ({"target_session_attrs"} if of_standby else set())
    for name in _VARIABLES.keys() - others:
        # As libpq: the query goes before the URL's own places, and these before the variables.
        if name not in options and (value := own.get(name) or environment.get(_VARIABLES[name])):
            options[name] = [value]
    if not listed and "host" not in options and environment.get("PGHOST"):
        options["host"] = [environment["PGHOST"]]
    for variable, values in _CHOICES.items():
        if environment.get(variable) not in {None, "", *values}:
            raise ValueError(f"comes with a {variable} that is unknown; known are {', '.join(values)}")
    database = _one(options, "dbname")
    if not database:
        raise ValueError(f"names no database: {FORM}")
    hosts = read_hosts(listed, options, default_port=environment.get("PGPORT"))
    return Address(
        hosts=hosts,
        database=database,
        user=_one(options, "user"),
        password=_one(options, "password"),
        target=_standby_target(options) if of_standby else _target(options, count=len(hosts)),
        options=_one(options, "options"),
        **_tls(options),
    )


def _split(text: str) -> tuple[SplitResult, dict[str, list[str]]]:
    """The places of the URL, and its query."""
    if not _START.match(text):
        raise ValueError(f"must look like {FORM}")
    try:
        parts = urlsplit(text)
        options = _options(parts.query)
    except ValueError:
        raise ValueError(f"must look like {FORM} (special characters as %XX)") from None
    if "@" in parts.path or ("@" in parts.query and "@" not in parts.netloc):
        raise ValueError(f"must look like {FORM}: special characters of a password, such as / and ?, are written as %XX")
    if parts.fragment:
        raise ValueError(f"holds a # that ends it; in a password it is written as %23. It must look like {FORM}")
    return parts, options


def _options(query: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    query = query.strip("&")
    for name, value in parse_qsl(query, keep_blank_values=False, strict_parsing=bool(query)):
        # As libpq, for addresses of JDBC's
        name, value = ("sslmode", "require") if (name, value) == ("ssl", "true") else (name, value)  # noqa: PLW2901
        found.setdefault(name, []).append(value)
    for timeout in found.get("connect_timeout", []):
        int(timeout)
    if "require" in found.get("gssencmode", []):
        raise ValueError
    return found


def _one(options: Mapping[str, list[str]], name: str) -> str | None:
    return options[name][-1] if name in options else None


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
    files = {name: found for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile") if (found := _one(options, name))}
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
    found = {"sslmode": mode, "files": files, "key_password": key_password, "protocols": _protocols(options)}
    try:
        Address((), "", **found).tls(Host("localhost"))
    except (ssl.SSLError, OSError):
        raise ValueError(
            f"names files that are no certificates, or no key that fits: {', '.join(path for path in files.values())}"
        ) from None
    return found


def _protocols(options: Mapping[str, list[str]]) -> tuple[ssl.TLSVersion | None, ssl.TLSVersion | None]:
    found = []
    for name in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        value = _one(options, name)
        if value is not None and value not in _PROTOCOLS:
            raise ValueError(f"has an unknown {name}; known are {', '.join(_PROTOCOLS)}")
        found.append(None if value is None else _PROTOCOLS[value])
    oldest, newest = found
    return oldest, newest


def _require_readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        hint = " Use sslrootcert=system for the authorities of this machine." if name == "sslrootcert" else ""
        raise ValueError(f"names a file for {name} that cannot be read ({path}: {error.strerror}).{hint}") from None
