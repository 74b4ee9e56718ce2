"""Why a call had no answer, in words for a person: never the name of a Python class, and never the text of a library's error.

That text can hold the address, and with it what was put into it.
"""

import socket
from collections.abc import Mapping

import httpx2

from app.certificate import causes_of, tls_fault

UNKNOWN = "an unexpected failure"
"""What is said of an error that nobody has found words for."""
_CAUSES: Mapping[type[BaseException], str] = {
    ConnectionRefusedError: "connection refused",
    socket.gaierror: "its name cannot be looked up",
    ConnectionResetError: "the connection was cut",
    BrokenPipeError: "the connection was cut",
    httpx2.ConnectTimeout: "no answer",
    httpx2.PoolTimeout: "too many calls wait for one",
    httpx2.TimeoutException: "no answer in time",
    httpx2.RemoteProtocolError: "the answer was cut, or is not HTTP",
    httpx2.LocalProtocolError: "the request cannot be written as HTTP",
    httpx2.ProxyError: "the proxy on the way refuses",
    httpx2.UnsupportedProtocol: "its address is no http or https",
    httpx2.InvalidURL: "its address cannot be read",
    httpx2.DecodingError: "the answer is not encoded as it says",
}
"""The first that is found in the chain of causes, from the outermost on."""
_KINDS: Mapping[type[BaseException], str] = {
    httpx2.ConnectError: "no connection could be made",
    httpx2.NetworkError: "the connection was cut",
    TimeoutError: "no answer in time",
}
"""Where no cause says more."""


def reason_of_call(error: BaseException) -> str:
    """Why a call over HTTP had no answer."""
    if words := tls_fault(error):
        return words
    chain = [*causes_of(error)]
    for cause in chain:
        for kind, words in _CAUSES.items():
            if isinstance(cause, kind):
                return words
    for cause in chain:
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            # The system's own words, such as "No route to host".
            return cause.strerror
    return next((words for kind, words in _KINDS.items() if isinstance(error, kind)), UNKNOWN)
