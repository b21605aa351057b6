"""What has to be laid on a counter, for every region that is shipped."""

from itertools import combinations

import pytest

from service.errors import Refusal
from service.locale import LOCALES, text
from service.materials import asked_for, category_shown
from service.policies import CATEGORIES, MATERIALS, Channel, Material
from service.regions import SHIPPED, Region, Regions

REGIONS = Regions.load_directory(SHIPPED)
WINDOWS: tuple[Channel, ...] = ("bank", "hospital", "bureau")
EVERY_COUNTER = pytest.mark.parametrize(
    ("region", "channel"),
    [(region, channel) for region in REGIONS for channel in WINDOWS],
    ids=lambda value: value if isinstance(value, str) else value.code,
)


def missing(region: Region, channel: Channel, shown: set[Material], *, minor: bool, card_lost: bool = False) -> set[str]:
    """The codes of what is refused as missing; none when it is enough."""
    try:
        category_shown(region, channel, shown, minor=minor, card_lost=card_lost)
    except Refusal as refusal:
        return {error.code for error in refusal.errors if (refusal.code, error.field) == ("invalid_request", "materials")}
    return set()


@EVERY_COUNTER
def test_what_the_guide_asks_for_is_enough_and_anything_less_is_not(region: Region, channel: Channel) -> None:
    for way in (way for way in region.policy.activation if way.channel == channel):
        for category, materials in way.materials.items():
            minor = category == "minor"
            enough = [{*other} for name, other in way.materials.items() if (name == "minor") is minor]
            assert not missing(region, channel, {*materials}, minor=minor)
            for less in combinations(materials, len(materials) - 1):
                covered = any(one <= {*less} for one in enough)
                assert bool(missing(region, channel, {*less}, minor=minor)) is not covered, (category, less)


@EVERY_COUNTER
def test_a_minor_is_served_for_guardian_and_household_register_and_nothing_else(region: Region, channel: Channel) -> None:
    everything = {*MATERIALS}
    assert category_shown(region, channel, everything, minor=True, card_lost=False) == "minor"
    for needed in ("guardianIdCard", "householdRegister"):
        assert missing(region, channel, everything - {needed}, minor=True) == {f"material_{needed}"}


@EVERY_COUNTER
@pytest.mark.parametrize("minor", [False, True])
def test_nobody_shows_a_card_that_is_lost(region: Region, channel: Channel, *, minor: bool) -> None:
    without = {*MATERIALS} - {"card"}
    assert not missing(region, channel, without, minor=minor, card_lost=True)
    assert missing(region, channel, without, minor=minor, card_lost=False) == {"material_card"}
    assert missing(region, channel, set(), minor=minor, card_lost=True) >= (
        {"material_guardianIdCard"} if minor else {"material_idCard"}
    )


@EVERY_COUNTER
def test_a_category_is_that_of_an_adult_or_of_a_minor(region: Region, channel: Channel) -> None:
    grown_up = [category for category, _ in asked_for(region, channel, minor=False)]
    assert grown_up[0] == "adult"
    assert {*grown_up} <= {*CATEGORIES} - {"minor"}
    assert [category for category, _ in asked_for(region, channel, minor=True)] == ["minor"]


def test_everything_that_can_be_missing_has_its_words() -> None:
    for material in MATERIALS:
        words = {text(locale, f"fields.material_{material}") for locale in LOCALES}
        assert len(words) == len(LOCALES)
