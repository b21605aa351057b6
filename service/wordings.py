"""The words of a message: a sentence with its signature for a text message, the same in a frame for a letter.

True here: text message and letter say the same sentence, so they cannot differ; what a region says in its own words stands in
the place of ours. A letter is plain text. Never here: a link, a name, or a number of anybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from service.locale import Bilingual, Locale, text

# As many as a text message may be cut into; providers take more, and people do not read them.
SMS_PARTS: Final = 3
# Units of UTF-16 in a message that is sent whole, and in each part of one that is not (3GPP TS 23.040: a part gives some up
# for the header that joins it to the others).
_WHOLE: Final = 70
_PART: Final = 67
_BRACKETS: Final[Mapping[Locale, tuple[str, str]]] = {"zh-CN": ("【", "】"), "en": ("[", "] ")}


@dataclass(frozen=True, slots=True)
class Words:
    """A message in words, in a language. `own_text`, `own_subject`, `signature`: a region's, in the place of ours."""

    template: str
    locale: Locale
    values: Mapping[str, object]
    own_text: Bilingual | None = None
    own_subject: Bilingual | None = None
    signature: Bilingual | None = None

    @property
    def said(self) -> str:
        """The sentence by itself."""
        if self.own_text is not None:
            return self.own_text.read_in(self.locale).format_map(dict(self.values))
        return text(self.locale, f"messages.{self.template}", **self.values)

    @property
    def sms(self) -> str:
        """The text message."""
        return signed(self.said, self.locale, self.signature)

    @property
    def subject(self) -> str:
        """What the letter is headed with."""
        if self.own_subject is not None:
            return self.own_subject.read_in(self.locale)
        return text(self.locale, f"subjects.{self.template}")

    @property
    def letter(self) -> str:
        """The letter, in plain text."""
        return text(self.locale, "letters.frame", said=self.said, signature=_by(self.locale, self.signature))


def signed(sentence: str, locale: Locale, signature: Bilingual | None = None) -> str:
    """The sentence as a text message: with who says it in front, in brackets, as providers want it."""
    before, after = _BRACKETS[locale]
    return f"{before}{_by(locale, signature)}{after}{sentence}"


def _by(locale: Locale, signature: Bilingual | None) -> str:
    return signature.read_in(locale) if signature is not None else text(locale, "letters.signature")


def sms_parts(message: str) -> int:
    """In how many parts a text message is sent, counted as for Chinese: letters alone may need fewer, and never more."""
    units = len(message.encode("utf-16-le")) // 2
    return 1 if units <= _WHOLE else ceil(units / _PART)
