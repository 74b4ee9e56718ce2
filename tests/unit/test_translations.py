"""The Spanish words of the page: complete, of today's messages, and compiled."""

import re

from tests.support.translations import MO, PO, as_mo, as_po, template, translated


def test_every_message_has_its_translation_and_none_is_left_over() -> None:
    """`python -m tests.support.translations` collects what is new; translate it in es.po and run it again."""
    catalog = translated()
    assert [] == [
        one.id for one in catalog if one.id and not all([one.string] if isinstance(one.string, str) else one.string or [""])
    ]
    assert {one.id for one in template()} == {one.id for one in catalog}
    assert as_po(catalog) == PO.read_bytes()
    assert as_mo(catalog) == MO.read_bytes()


def test_translations_keep_the_places_for_values_and_the_words_that_are_no_words() -> None:
    for one in translated():
        ids, strings = ([part] if isinstance(part, str) else list(part or ()) for part in (one.id, one.string))
        for string in strings:
            for pattern in (r"%\(\w+\)[sd]", r"[A-Z]+_[A-Z_]+", r"pos-sync [a-z ]+"):
                here, there = set(re.findall(pattern, ids[-1])), set(re.findall(pattern, string))
                # Of one, the number may be left out.
                assert here == there if len(ids) == 1 else there <= here, string
