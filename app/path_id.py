"""Ids in the paths of routes: any id of a store or an item can be named."""

from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor

STORE_PATH = "/stores/{store_id:id}"
"""Of what belongs to one store"""


class _IdConvertor(Convertor[str]):
    """An id in a path, decoded once, so that one with a slash, a blank or an accent can be named: paths are matched undecoded."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        return quote(value, safe="")


register_url_convertor("id", _IdConvertor())
