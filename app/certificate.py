"""Why a server's certificate, or ours, was refused, in words that say what to do: OpenSSL's are for programmers."""

import ssl
from collections.abc import Iterator

AUTHORITIES = "the environment variable SSL_CERT_FILE"
"""Where outward HTTPS calls find the authorities that they trust, in place of the machine's own"""

# OpenSSL's codes (x509_vfy.h).
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = {62, 64}


def tls_fault(error: BaseException, *, authorities: str = AUTHORITIES) -> str | None:
    """What went wrong between TLS's two ends, where `error` or what caused it is that; else None.

    `authorities` says where the authority of the server's certificate is named.
    """
    for cause in causes_of(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate {_verdict(cause, authorities)}"
        if isinstance(cause, ssl.SSLError):
            # Only what OpenSSL itself raises has a reason.
            return _refusal(getattr(cause, "reason", None) or "")
    return None


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error, and what caused it, from the outermost on."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        # Of several tries, as of the addresses of one name, the first says enough.
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__


def _verdict(error: ssl.SSLCertVerificationError, authorities: str) -> str:
    code = error.verify_code
    if code in _UNKNOWN_AUTHORITY:
        return f"was issued by a CA that this machine does not know: name the file of that CA in {authorities}"
    if code in _OTHER_NAME:
        return "is for another name: use a name that it is for"
    if code == _EXPIRED:
        return "has expired: it has to be renewed"
    if code == _NOT_YET_VALID:
        return "is not valid yet: look at the clock of this machine"
    return f"is not trusted ({error.verify_message})"


def _refusal(reason: str) -> str:
    if "ALERT" in reason and ("CERTIFICATE" in reason or reason.endswith("UNKNOWN_CA")):
        return f"the server does not take the certificate of this client ({_words(reason)})"
    return f"TLS failed ({_words(reason)})" if reason else "TLS failed"


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")
