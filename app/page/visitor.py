"""Who looks at the page, and how the page knows: by a session, or by the header of a trusted proxy."""

import hashlib
import hmac
import ipaddress
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from app.settings import Settings

SESSION_BYTES = 24
_SIGNATURE_BYTES = 16
MAX_NAME_LENGTH = 60


class Role(StrEnum):
    """What a visitor may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks. `form_key` binds forms to the session, or to the name that a proxy gives."""

    name: str
    role: Role
    form_key: bytes
    session_hash: bytes | None = None
    """None: a proxy names the visitor"""

    @property
    def actor(self) -> str:
        """As the ledger and the records name them."""
        return f"page:{self.name}"

    @property
    def form_token(self) -> str:
        """What every form has to bring."""
        return _signature(self.form_key, b"form")


class Keys:
    """Makes and checks cookies. Their key comes from the password, so a new password ends all sessions of the old one."""

    def __init__(self, settings: Settings) -> None:
        passwords = {Role.OPERATOR: settings.operator_password, Role.VIEWER: settings.viewer_password}
        self._passwords = {role: one.get_secret_value().encode() for role, one in passwords.items() if one is not None}
        self._shared = settings.mipos_client_secret.get_secret_value().encode()
        self._header = settings.operator_user_header
        self._operators = {name.strip() for name in settings.operator_users.split(",") if name.strip()}
        self._proxies = [ipaddress.ip_network(one.strip(), strict=False) for one in settings.forwarded_allow_ips.split(",")]

    @cached_property
    def has_login(self) -> bool:
        """Whether anybody can log in with a password."""
        return bool(self._passwords)

    @property
    def roles(self) -> Iterable[Role]:
        """Those that have a password."""
        return self._passwords

    def role_of(self, password: str) -> Role | None:
        """What the password is good for; None where it is none of ours."""
        given = hashlib.sha256(password.encode()).digest()
        found = [role for role, one in self._passwords.items() if hmac.compare_digest(hashlib.sha256(one).digest(), given)]
        return found[0] if found else None

    def new_cookie(self, role: Role) -> tuple[str, bytes]:
        """A cookie, and the hash under which its session is kept."""
        number = secrets.token_bytes(SESSION_BYTES)
        return f"{role}.{_encoded(number)}.{_signature(self._key(role), number)}", hashlib.sha256(number).digest()

    def read_cookie(self, cookie: str) -> tuple[Role, bytes] | None:
        """The role and the hash of a cookie that is signed under today's password."""
        role, _, rest = cookie.partition(".")
        number, _, signature = rest.partition(".")
        try:
            raw = urlsafe_b64decode(number + "=" * (-len(number) % 4))
        except ValueError:
            return None
        if role not in self._passwords or not hmac.compare_digest(
            _signature(self._key(Role(role)), raw).encode(), signature.encode("utf-8", "replace")
        ):
            return None
        return Role(role), hashlib.sha256(raw).digest()

    def form_key(self, role: Role, session_hash: bytes) -> bytes:
        """By which the forms of a session are known."""
        return hmac.digest(self._key(role), session_hash, "sha256")

    def named_by_proxy(self, headers: Iterable[tuple[bytes, bytes]], peer: str | None) -> Visitor | None:
        """Return the visitor that a trusted proxy names; None where it names none, or where the peer is not a trusted proxy."""
        if self._header is None or not self._is_proxy(peer):
            return None
        given = [value for name, value in headers if name == self._header.encode()]
        name = given[0].decode("utf-8", "replace").strip()[:MAX_NAME_LENGTH] if len(given) == 1 else ""
        if not name:
            return None
        role = Role.OPERATOR if name in self._operators else Role.VIEWER
        return Visitor(name, role, hmac.digest(self._shared, f"page {name}".encode(), "sha256"))

    def _is_proxy(self, peer: str | None) -> bool:
        try:
            address = ipaddress.ip_address(peer or "")
        except ValueError:
            return False
        return any(address in network for network in self._proxies)

    def _key(self, role: Role) -> bytes:
        return hmac.digest(self._passwords[role], b"pos-sync page " + role.encode(), "sha256")


def link_hash(link: str) -> bytes:
    """Under which a login link is kept."""
    return hashlib.sha256(b"link " + link.encode()).digest()


def network_of(client: str | None) -> str:
    """From where somebody tries to log in: one address has many neighbours in IPv6, and a few in IPv4."""
    try:
        address = ipaddress.ip_address(client or "")
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 24 if isinstance(address, ipaddress.IPv4Address) else 64), strict=False))


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _signature(key: bytes, message: bytes) -> str:
    return _encoded(hmac.digest(key, message, "sha256")[:_SIGNATURE_BYTES])
