"""Materials: what somebody lays on the counter, and whether it is what their region asks for there.

True here: what is asked for is read from the region's activation guide by channel and category, and nowhere else; where a
counter does not activate cards, it asks what the bureau window asks. A minor's card always needs the guardian's ID and the
household register. Never here: a picture or a number of any document; an operator says what was shown.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from service.errors import FieldError, Refusal
from service.policies import CATEGORIES, Category, Channel, Material
from service.regions import Region

# Whose guide is asked where the counter itself activates no cards.
_WINDOWS: Final[tuple[Channel, ...]] = ("bureau", "bank", "hospital")
# Where a region activates at no window at all, one still has to show who one is.
_IN_PERSON: Final[Mapping[Category, tuple[Material, ...]]] = {
    "adult": ("card", "idCard"),
    "minor": ("card", "guardianIdCard", "householdRegister"),
    "noIdCard": ("card", "householdRegister"),
}


def category_shown(region: Region, channel: Channel, shown: Collection[Material], *, minor: bool, card_lost: bool) -> Category:
    """The category of holder for whom these materials are enough at a counter: `minor`, or the first of the others.

    `card_lost`: nobody can show a card that is lost. Refuses with `invalid_request`: `materials`, and for each one that is
    missing a code `material_…` that names it.
    """
    asked = dict(asked_for(region, channel, minor=minor))
    if card_lost:
        asked = {category: tuple(one for one in materials if one != "card") for category, materials in asked.items()}
    for category, materials in asked.items():
        if set(materials) <= set(shown):
            return category
    usual = asked.get("minor") or asked.get("adult") or next(iter(asked.values()))
    missing = [material for material in usual if material not in shown]
    raise Refusal("invalid_request", errors=[FieldError("materials", f"material_{material}", {}) for material in missing])


def asked_for(region: Region, channel: Channel, *, minor: bool) -> Iterator[tuple[Category, tuple[Material, ...]]]:
    """What each category that somebody can be of brings to a counter."""
    for category in CATEGORIES:
        if (category == "minor") is not minor:
            continue
        ways = {way.channel: way.materials for way in region.activation_guide(category).ways}
        at = next((window for window in (channel, *_WINDOWS) if window in ways), None)
        if at is not None:
            yield category, ways[at]
        elif category in _IN_PERSON:
            yield category, _IN_PERSON[category]
