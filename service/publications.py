"""The five texts that a region makes public about its cards, with the figures of its rules written into them.

True here: days, ages, dates and channels stand in a text as `{placeholders}` and are filled from the same policy that decides,
so that what is published and what is done cannot differ. Never here: a fact that is no rule of the region.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date
from typing import Final

from service.locale import LOCALES, Bilingual, Locale, placeholders, text
from service.policies import ACTS, Publications, RegionPolicy

# `{report_formal_loss_channels}` for reportFormalLoss, and so on.
_COMMAS: Final[Mapping[Locale, str]] = {"zh-CN": "、", "en": ", "}

_CAPITAL: Final = re.compile("([A-Z])")
_OF_ACTS: Final = {act: _CAPITAL.sub(r"_\1", act).lower() + "_channels" for act in ACTS}
PLACEHOLDERS: Final = frozenset(
    {
        "name",
        "temporary_loss_days",
        "guardian_age",
        "pin_max_tries",
        "card_number_length",
        "card_validity_years",
        "collection_place",
        "information_confirmers",
        "activate_channels",
        "cut_off_on",
        *_OF_ACTS.values(),
    }
)


def facts_of(names: Bilingual, policy: RegionPolicy, locale: Locale) -> Mapping[str, object]:
    """What fills the placeholders in a language.

    The channels of an act that is never done are not among them, nor is the day of the latest cut-off where there is none: a
    text must not speak of those.
    """
    channels = {"activate_channels": tuple(way.channel for way in policy.activation)}
    channels |= {_OF_ACTS[act]: policy.channels[act] for act in ACTS}
    cut_offs = [generation.cut_off_on for generation in policy.generations if generation.cut_off_on]
    return {
        "name": names.read_in(locale),
        "temporary_loss_days": policy.temporary_loss_days,
        "guardian_age": policy.guardian_age,
        "pin_max_tries": policy.service_pin.max_tries,
        "card_number_length": policy.card_number.length,
        "card_validity_years": policy.card_validity_years,
        "collection_place": text(locale, f"in_publications.places.{policy.collection}"),
        "information_confirmers": _listed(policy.information_confirmation, "confirmers", locale),
        **{name: _listed(listed, "channels", locale) for name, listed in channels.items() if listed},
        **({"cut_off_on": _written_day(max(cut_offs), locale)} if cut_offs else {}),
    }


def _listed(codes: Sequence[str], section: str, locale: Locale) -> str:
    *before, last = (text(locale, f"in_publications.{section}.{code}") for code in codes)
    first = _COMMAS[locale].join(before)
    return f"{first}{text(locale, 'in_publications.or')}{last}" if first else last


def _written_day(day: date, locale: Locale) -> str:
    month = text(locale, f"in_publications.months.m{day.month}")
    return text(locale, "in_publications.day", year=day.year, month=month, day=day.day)


def faults_of(publications: Publications, known: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Placeholders that nothing fills: the field of each below `publications`, and the reason."""
    for field in fields(Publications):
        for language in ("zh", "en"):
            try:
                wanted = placeholders(getattr(getattr(publications, field.name), language))
            except ValueError as failure:
                yield f"{field.name}.{language}", str(failure)
                continue
            if wanted - PLACEHOLDERS:
                yield f"{field.name}.{language}", "has a placeholder that no policy fills"
            elif missing := sorted(wanted - known):
                yield f"{field.name}.{language}", f"speaks of {{{missing[0]}}}, and by these rules there is none"


def written_out(names: Bilingual, policy: RegionPolicy) -> Publications:
    """The texts with every placeholder filled."""
    facts = {locale: facts_of(names, policy, locale) for locale in LOCALES}

    def written(template: Bilingual) -> Bilingual:
        return Bilingual(zh=template.zh.format_map(facts["zh-CN"]), en=template.en.format_map(facts["en"]))

    every = {field.name: written(getattr(policy.publications, field.name)) for field in fields(Publications)}
    return Publications(**every)
