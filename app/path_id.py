"""Ids in the paths of routes: any id of a store or an item can be named."""

from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor

STORE_PATH = "/stores/{store_id:id}"
"""Of what belongs to one store"""


class _IdConvertor(Convertor[str]):
    """An id in a path, decoded once, so that one with a slash, a blank or an accent can be named: paths are matched undecoded.

    Browsers and proxies take "." and "..", and %2E too, for a way. So a blank may stand before them, with which no id begins.
    """

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        named = unquote(value)
        return named[1:] if named in {" .", " .."} else named

    def to_string(self, value: str) -> str:
        return ("%20" if value in {".", ".."} else "") + quote(value, safe="")


register_url_convertor("id", _IdConvertor())
