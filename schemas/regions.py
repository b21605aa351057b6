"""Regions on the wire: who is served, what their rules are, and how a card is activated there.

True here: rules go out as data, with the five published texts beside them. Never here: what a first service PIN is made of;
the holder is told that with the card.
"""

from datetime import date
from typing import Literal

from schemas.wire import Body, Day, View
from service.locale import Locale, text
from service.policies import ACTS, Act, Category, Channel, CollectionPlace, Confirmer, Material, Publications
from service.regions import Region

# The PIN of every region has six digits (domain rule, not a region's).
_PIN_LENGTH = 6


class RegionView(View):
    """A region that is served."""

    code: str
    name: str
    interconnected: bool


class RegionPage(View):
    """The regions that are served, in order of code."""

    items: list[RegionView]
    next_cursor: str | None
    has_more: bool


class PublicationsView(View):
    """What a region must make public about its cards (Measures for the Administration of Social Security Cards, art. 16)."""

    functions_and_uses: str
    eligibility_conditions_and_procedure: str
    scope_period_and_method: str
    loss_damage_and_replacement: str
    rights_and_duties: str


class CardNumberRuleView(View):
    """The form of a card number."""

    length: int
    check_character_enforced: bool


class ServicePinRuleView(View):
    """The form of a service PIN, and after how many wrong tries it locks."""

    length: int
    max_tries: int


class GenerationView(View):
    """A card generation. `issued`: new cards are of it. From `cutOffOn` on its cards no longer work; null: nobody ends it."""

    number: int
    issued: bool
    announced_on: Day | None
    cut_off_on: Day | None
    retired: bool


class ActionChannelsView(View):
    """Through which channels something is done; none: never in this region."""

    action: Literal["activate"] | Act
    channels: list[Channel]


class RegionBankView(View):
    """A bank whose cards the region issues."""

    code: str
    name: str


class RegionRulesView(View):
    """The rules of a region about its cards. `version` grows with every change."""

    region_code: str
    region_name: str
    version: int
    publications: PublicationsView
    temporary_loss_days: int
    figures_old_after_hours: int
    formal_loss_cancellable: bool
    guardian_age: int
    required_assurance: Literal[2, 3]
    card_validity_years: int
    interconnected: bool
    card_number: CardNumberRuleView
    service_pin: ServicePinRuleView
    generations: list[GenerationView]
    channels: list[ActionChannelsView]
    collection: CollectionPlace
    information_confirmation: list[Confirmer]
    banks: list[RegionBankView]


class GuideQuery(Body):
    """Whose guide."""

    category: Category


class MaterialView(View):
    """Something to bring or to know."""

    code: Material
    name: str


class GuideChannelView(View):
    """A channel, what it activates (the bank function only at an outlet of the card's bank), and what to bring."""

    channel: Channel
    name: str
    functions: list[Literal["social", "bank"]]
    materials: list[MaterialView]


class ActivationGuideView(View):
    """How people of a category activate their card in a region; there is always a way."""

    region_code: str
    region_name: str
    category: Category
    category_name: str
    channels: list[GuideChannelView]


def region_view(region: Region, locale: Locale) -> RegionView:
    return RegionView(code=region.code, name=region.name(locale), interconnected=region.interconnected)


def rules_view(region: Region, locale: Locale, today: date) -> RegionRulesView:
    policy = region.policy
    return RegionRulesView(
        region_code=region.code,
        region_name=region.name(locale),
        version=policy.version,
        publications=_publications_view(policy.publications, locale),
        temporary_loss_days=policy.temporary_loss_days,
        figures_old_after_hours=policy.figures_old_after_hours,
        formal_loss_cancellable=policy.formal_loss_cancellable,
        guardian_age=policy.guardian_age,
        required_assurance=policy.required_assurance,
        card_validity_years=policy.card_validity_years,
        interconnected=region.interconnected,
        card_number=CardNumberRuleView(
            length=policy.card_number.length, check_character_enforced=policy.card_number.check_character_enforced
        ),
        service_pin=ServicePinRuleView(length=_PIN_LENGTH, max_tries=policy.service_pin.max_tries),
        generations=[
            GenerationView(
                number=generation.number,
                issued=generation.number == policy.current_generation,
                announced_on=generation.announced_on,
                cut_off_on=generation.cut_off_on,
                retired=policy.is_retired(generation.number, today),
            )
            for generation in policy.generations
        ],
        channels=[
            ActionChannelsView(action="activate", channels=[way.channel for way in policy.activation]),
            *(ActionChannelsView(action=act, channels=list(policy.channels[act])) for act in ACTS),
        ],
        collection=policy.collection,
        information_confirmation=list(policy.information_confirmation),
        banks=[RegionBankView(code=bank.code, name=bank.name(locale)) for bank in region.banks],
    )


def _publications_view(published: Publications, locale: Locale) -> PublicationsView:
    return PublicationsView(
        functions_and_uses=published.functions_and_uses.read_in(locale),
        eligibility_conditions_and_procedure=published.eligibility_conditions_and_procedure.read_in(locale),
        scope_period_and_method=published.scope_period_and_method.read_in(locale),
        loss_damage_and_replacement=published.loss_damage_and_replacement.read_in(locale),
        rights_and_duties=published.rights_and_duties.read_in(locale),
    )


def activation_guide_view(region: Region, category: Category, locale: Locale) -> ActivationGuideView:
    guide = region.activation_guide(category)
    return ActivationGuideView(
        region_code=region.code,
        region_name=region.name(locale),
        category=category,
        category_name=text(locale, f"categories.{category}"),
        channels=[
            GuideChannelView(
                channel=way.channel,
                name=text(locale, f"channels.{way.channel}"),
                functions=["social", "bank"] if way.channel == "bank" else ["social"],
                materials=[MaterialView(code=code, name=text(locale, f"materials.{code}")) for code in way.materials],
            )
            for way in guide.ways
        ],
    )
