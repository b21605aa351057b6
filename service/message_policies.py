"""What a region decides about messages: quiet hours, whether people hear of look-ups, its signature, its own words.

True here: quiet hours are a stretch of every day at +08:00; own words are there in both languages, say nothing that the
service does not fill in, lead nowhere, and fit into SMS_PARTS. Never here: words for a one-time code, and a choice to keep
quiet about what concerns somebody's security.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator

from service.announcements import WORDED_BY_REGIONS
from service.clock import CHINA
from service.locale import LOCALES, Bilingual, Locale, catalogue, placeholders
from service.strict_toml import strict_shape
from service.wordings import SMS_PARTS, signed, sms_parts

# A day has to have room for what waits.
LONGEST_QUIET: Final = timedelta(hours=12)
# As providers of text messages take them.
SIGNATURE_SIGNS: Final = range(2, 21)
# What fills a place is never longer: the longest is where a card is fetched.
_FILLED_WITH: Final = "x" * 40
_LINK: Final = re.compile(r"://|www\.|\b[a-z0-9-]+\.(?:cn|com|net|org)\b", re.IGNORECASE)
_BRACKETS: Final = frozenset("【】[]")


@strict_shape
@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begins` to `ends` every day, over midnight when it ends before it begins; times of day at +08:00."""

    begins: time
    ends: time

    def over_at(self, moment: datetime) -> datetime:
        """The moment itself, or when the quiet hours are over in which it lies (UTC)."""
        here = moment.astimezone(CHINA)
        clock = here.time()
        over_midnight = self.ends < self.begins
        evening, morning = clock >= self.begins, clock < self.ends
        if not (evening or morning if over_midnight else evening and morning):
            return moment
        over = datetime.combine(here.date(), self.ends, CHINA)
        return (over if over > here else over + timedelta(days=1)).astimezone(UTC)

    @property
    def length(self) -> timedelta:
        """How much of a day is quiet."""
        day = datetime(2000, 1, 1, tzinfo=UTC).date()
        stretch = datetime.combine(day, self.ends) - datetime.combine(day, self.begins)
        return stretch % timedelta(days=1)


@strict_shape
@dataclass(frozen=True, slots=True)
class Wording:
    """A region's own words for a template: what is said in text message and letter, and what the letter is headed."""

    text: Bilingual | None = None
    subject: Bilingual | None = None


def _no_wordings() -> Mapping[str, Wording]:
    return MappingProxyType({})


@strict_shape
@dataclass(frozen=True, slots=True)
class MessagePolicy:
    """A region's rules about messages. `signature`: who says it, where that is not the service's own; `texts`: by template."""

    tell_counter_look_ups: bool
    quiet_hours: QuietHours | None = None
    signature: Bilingual | None = None
    texts: Annotated[Mapping[str, Wording], AfterValidator(MappingProxyType)] = field(default_factory=_no_wordings)


def about_messages(messages: MessagePolicy) -> Iterator[tuple[str, str]]:
    """What is wrong with a region's rules about messages: the field of each fault below them, and the reason."""
    if messages.quiet_hours is not None:
        yield from _about_quiet_hours(messages.quiet_hours)
    if messages.signature is not None:
        for locale, language in _LANGUAGES:
            yield from _about_signature(messages.signature.read_in(locale), language)
    for template, wording in messages.texts.items():
        if template not in WORDED_BY_REGIONS:
            yield f"texts.{template}", "is no message that a region words"
        elif wording.text is None and wording.subject is None:
            yield f"texts.{template}", "has neither text nor subject"
        else:
            yield from _about_wording(template, wording, messages.signature)


_LANGUAGES: Final[tuple[tuple[Locale, str], ...]] = tuple((locale, "zh" if locale == "zh-CN" else "en") for locale in LOCALES)


def _about_quiet_hours(quiet: QuietHours) -> Iterator[tuple[str, str]]:
    for name, at in (("begins", quiet.begins), ("ends", quiet.ends)):
        if at.tzinfo is not None:
            yield f"quiet_hours.{name}", "is a time of day at +08:00, without an offset"
        elif at.second or at.microsecond:
            yield f"quiet_hours.{name}", "must be a whole minute"
    if quiet.begins.tzinfo is None and quiet.ends.tzinfo is None and not timedelta() < quiet.length <= LONGEST_QUIET:
        yield "quiet_hours.ends", f"must be after begins by {LONGEST_QUIET.seconds // 3600} hours at most"


def _about_signature(signature: str, language: str) -> Iterator[tuple[str, str]]:
    if len(signature) not in SIGNATURE_SIGNS:
        yield f"signature.{language}", f"must have {SIGNATURE_SIGNS.start} to {SIGNATURE_SIGNS.stop - 1} signs"
    if _BRACKETS & set(signature) or not signature.isprintable() or "{" in signature:
        yield f"signature.{language}", "must be a plain name; the brackets around it are put there"


def _about_wording(template: str, wording: Wording, signature: Bilingual | None) -> Iterator[tuple[str, str]]:
    shipped = catalogue()
    for part, own in (("text", wording.text), ("subject", wording.subject)):
        if own is None:
            continue
        for locale, language in _LANGUAGES:
            field_name, words = f"texts.{template}.{part}.{language}", own.read_in(locale)
            try:
                wanted = placeholders(words)
            except ValueError as failure:
                yield field_name, str(failure)
                continue
            # A letter is headed with no more than what it is about.
            known = placeholders(shipped.texts[locale][f"messages.{template}"]) if part == "text" else frozenset()
            if wanted - known:
                yield field_name, "has a placeholder that this message does not fill"
            elif _LINK.search(words):
                yield field_name, "has a link in it, and people are told that we send none"
            elif not words.isprintable():
                yield field_name, "must be one line"
            elif part == "text" and _is_too_long(words.format_map(dict.fromkeys(wanted, _FILLED_WITH)), locale, signature):
                yield field_name, f"is longer than {SMS_PARTS} text messages"


def _is_too_long(said: str, locale: Locale, signature: Bilingual | None) -> bool:
    return sms_parts(signed(said, locale, signature)) > SMS_PARTS
