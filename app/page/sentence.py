"""What an act says of itself: kept as it is, and told to each visitor in their own language."""

import gettext
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

Value = int | str | list[tuple[str, str]]
"""A number or an id; or fields, each a label to be translated and a text."""
CONTEXT_END = "\x04"
"""How gettext ends the context of words (`later_of`)"""


class EnglishWords(gettext.NullTranslations):
    """The words as they are, without their context."""

    def gettext(self, message: str) -> str:
        """`message`."""
        return message.rpartition(CONTEXT_END)[2]


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words with the places of `values` and `codes` in them, in the form of gettext."""

    words: str
    values: Mapping[str, Value] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)
    """Values that are words of ours too"""
    plural: str | None = None
    """The words for any other number than one, which is the value `num`"""
    note: str = ""
    """Of the person who did it, in their words"""

    def to_text(self) -> str:
        """For keeping."""
        return json.dumps([self.words, self.values, self.codes, self.plural, self.note])

    def told(self, translations: gettext.NullTranslations) -> str:
        """In the language of `translations`."""
        filled: dict[str, object] = {name: translations.gettext(word) for name, word in self.codes.items()}
        for name, value in self.values.items():
            fields = value if isinstance(value, list) else []
            filled[name] = ", ".join(translations.gettext(of) + f": {text}" for of, text in fields) if fields else value
        num = self.values.get("num")
        words = (
            translations.ngettext(self.words, self.plural, num)
            if self.plural is not None and isinstance(num, int)
            else translations.gettext(self.words)
        )
        label = translations.gettext("Note")
        note = f" {label}: {self.note}" if self.note else ""
        return words % filled + note


def plurals(one: str, several: str) -> tuple[str, str]:
    """The words for one and for several: named so that they are collected for the translation."""
    return one, several


def counted(words: tuple[str, str], num: int, *, note: str = "") -> Sentence:
    """`words` of `plurals`, for this number."""
    one, several = words
    return Sentence(one, {"num": num}, plural=several, note=note)


def told(text: str, translations: gettext.NullTranslations) -> str:
    """What was kept, or words of ours, in the language of `translations`."""
    if not text.startswith("["):
        return translations.gettext(text)
    words, values, codes, plural, note = json.loads(text)
    return Sentence(words, values, codes, plural, note).told(translations)
