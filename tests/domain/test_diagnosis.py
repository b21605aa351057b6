"""The diagnosis and the table: what is said to be in the way is, and every step that is named leads on."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest
from domain.test_cards import CARD, NOW, REGIONS
from domain.test_personas import PEOPLE, records_of
from hypothesis import given
from hypothesis import strategies as st

from service.activations import circumstances_of
from service.actors import COUNTERS, STAFF_ROLES, Actor, holder_actor
from service.cards import Bank, BankStatus, Card, MedicalStatus, Pin, PinState, Stage, Status
from service.diagnosis import DECISIVE, Beside, Blocker, Diagnosis, Prospects, Step, diagnose
from service.ids import CardId
from service.locale import LOCALES, text
from service.materials import category_shown
from service.policies import Channel
from service.regions import ONLINE, Region
from service.sandbox.records import holder_record
from service.transitions import Action, Circumstances, Objection, judge, judge_activation, refusal_of

A, S = Action, Status
HOME = REGIONS.get("990100")
ADULT = Circumstances("adult", minor=False, guardian=False, served=True)
MINOR = replace(ADULT, category="minor", minor=True)
APART = replace(ADULT, served=False)
ENDS = NOW + timedelta(days=1)
ALONE = Prospects((), insured=True)
OTHER = CardId("card_bbbbbbbbbbbbbbbbbbbbbbbb")

CARDS = st.builds(
    replace,
    st.just(CARD),
    stored_status=st.sampled_from(Status),
    temporary_loss_until=st.sampled_from([NOW - timedelta(days=1), ENDS]),
    generation=st.sampled_from([2, 3]),
    stage=st.sampled_from([Stage.RECEIVED_BY_CITY, Stage.DELIVERED]),
    test_batch=st.booleans(),
    expires_on=st.sampled_from([date(2020, 1, 1), date(2035, 8, 31)]),
    bank=st.builds(Bank, st.just("B901"), st.none(), st.sampled_from(BankStatus)),
    stored_medical=st.sampled_from(MedicalStatus),
    pin=st.builds(Pin, st.sampled_from(PinState), st.integers(0, 10)),
    lock_reason=st.sampled_from([None, "holderRequest", "fraud"]),
)
ABOUT = st.sampled_from([ADULT, MINOR, APART, replace(MINOR, served=False)])
MOMENTS = st.sampled_from([NOW, datetime(2032, 6, 1, tzinfo=UTC)])


def by_code(diagnosis: Diagnosis) -> dict[str, Blocker]:
    return {blocker.code: blocker for blocker in diagnosis.blockers}


def ways(blocker: Blocker) -> dict[tuple[str, str], tuple[str, ...]]:
    """The materials by action and place."""
    return {(step.action, place): step.materials for step in blocker.steps for place in step.places}


def entitled(channel: Channel, card: Card, about: Circumstances) -> tuple[list[Actor], Circumstances]:
    """Who may stand there for the holder: themselves, or for a minor the guardian; or any operator of the counter."""
    about = replace(about, guardian=about.minor)
    if channel in ONLINE:
        return [holder_actor(card.holder_id, channel)], about
    codes = frozenset({card.region_code})
    counters = [role for role in STAFF_ROLES if COUNTERS.get(role) == channel]
    at = [Actor("op_x", role, channel, codes, "ins_x", card.bank.code if role == "bankTeller" else None) for role in counters]
    # The counters of the region that issued a card serve it, whatever it is connected with.
    return at, replace(about, served=True)


def objections(step: Step, card: Card, region: Region, about: Circumstances, now: datetime) -> Iterator[Objection | None]:
    """What the server says to the step at each of its places."""
    for place in step.places:
        assert place != "subDistrict"
        actors, there = entitled(place, card, about)
        assert isinstance(step.action, Action)
        for actor in actors:
            if step.action is A.ACTIVATE:
                yield judge_activation(card, actor, region, there, now)
            else:
                yield judge(step.action, card, actor, region, now)


def assert_every_step_leads_on(card: Card, region: Region, about: Circumstances, now: datetime) -> None:
    """A step is accepted where it is sent to, or what it waits for is a blocker of its own."""
    told = diagnose(card, region, about, ALONE, now)
    for blocker in told.blockers:
        for step in blocker.steps:
            assert step.places
            if isinstance(step.action, Beside):
                continue
            for objection in objections(step, card, region, about, now):
                if objection is not None:
                    assert objection.code in {"card_not_activatable", "transition_not_allowed", "pin_locked"}
                    assert objection.reason in {*by_code(told)} - {blocker.code}
    # No circle: something can be done now, unless there is nothing left but to wait, to ask or to begin again.
    steps = [step for blocker in told.blockers for step in blocker.steps]
    now_possible = [
        step for step in steps if isinstance(step.action, Beside) or None in objections(step, card, region, about, now)
    ]
    assert now_possible or not steps or {*by_code(told)} & {"testCard"}


@given(card=CARDS, region=st.sampled_from([*REGIONS]), about=ABOUT, now=MOMENTS)
def test_a_diagnosis_says_what_the_table_does(card: Card, region: Region, about: Circumstances, now: datetime) -> None:
    card = replace(card, region_code=region.code)
    told = diagnose(card, region, about, ALONE, now)
    assert told.usable == (refusal_of(A.CHECK_PIN, card, region, now) is None)
    assert told.usable == (not {blocker.axis for blocker in told.blockers} & DECISIVE)
    assert told.can_activate == (refusal_of(A.ACTIVATE, card, region, now) is None)
    assert told.can_activate <= ("sealed" in by_code(told))
    assert len(by_code(told)) == len(told.blockers)
    # What the table says is in the way, the diagnosis names.
    for action in Action:
        reason = refusal_of(action, card, region, now)
        assert reason is None or reason in by_code(told) or reason in {"alreadyActivated", "active"}
    assert_every_step_leads_on(card, region, about, now)


@given(card=CARDS, region=st.sampled_from([*REGIONS]), about=ABOUT, now=MOMENTS)
def test_every_axis_that_is_not_in_order_is_named(card: Card, region: Region, about: Circumstances, now: datetime) -> None:
    card = replace(card, region_code=region.code)
    codes = {*by_code(diagnose(card, region, about, ALONE, now))}
    if card.status(now) is S.CANCELLED:
        assert codes == {"cancelled"} | ({"medicalClosed"} if card.stored_medical is MedicalStatus.CLOSED else set())
        return
    assert ("expired" in codes) == card.is_expired(now)
    assert ("retired" in codes) == region.is_retired(card.generation, now)
    assert (card.status(now) in codes) == (card.status(now) is not S.ACTIVE)
    assert ("testCard" in codes) == card.test_batch
    assert ("notDelivered" in codes) == (card.stage is not Stage.DELIVERED and not card.test_batch)
    for axis, state in (
        ("bank", card.bank.status),
        ("medical", card.medical_alone(region, now)),
        ("pin", card.pin.state_under(region.policy.service_pin.max_tries)),
    ):
        named = {code for code in codes if code.startswith(axis)}
        in_order = state in {BankStatus.ACTIVE, MedicalStatus.NORMAL, PinState.SET}
        assert named == (set() if in_order else {f"{axis}{state.capitalize()}"})


@given(card=CARDS, region=st.sampled_from([*REGIONS]), about=ABOUT, now=MOMENTS)
def test_who_brings_what_is_named_is_served_at_a_counter(
    card: Card, region: Region, about: Circumstances, now: datetime
) -> None:
    card = replace(card, region_code=region.code)
    lost = card.status(now) in {S.TEMPORARILY_LOST, S.FORMALLY_LOST}
    for blocker in diagnose(card, region, about, ALONE, now).blockers:
        for step in blocker.steps:
            assert not (lost and "card" in step.materials)
            for place in step.places:
                if place in {"bank", "hospital", "bureau"} and isinstance(step.action, Action):
                    # Refuses when something is missing.
                    category_shown(region, place, step.materials, minor=about.minor, card_lost=lost)


@pytest.mark.parametrize("key", [*PEOPLE])
@pytest.mark.parametrize("now", [NOW, datetime(2032, 6, 1, tzinfo=UTC)])
def test_everybody_in_the_sandbox_is_told_what_leads_on(key: str, now: datetime) -> None:
    person = PEOPLE[key]
    for record in records_of(key):
        region = REGIONS.get(record.card.region_code)
        about = circumstances_of(holder_record(person, "$hash"), region, REGIONS.get(person.region_code), now)
        assert_every_step_leads_on(record.card, region, about, now)


def test_an_active_card_in_order_has_nothing_in_its_way() -> None:
    card = replace(
        CARD,
        stored_status=S.ACTIVE,
        bank=Bank("B901", None, BankStatus.ACTIVE),
        pin=Pin(PinState.SET, 0),
        stored_medical=MedicalStatus.NORMAL,
    )
    assert diagnose(card, HOME, ADULT, ALONE, NOW) == Diagnosis(usable=True, can_activate=False, blockers=())


def test_a_sealed_card_is_activated_where_the_region_says_and_with_what_its_guide_asks() -> None:
    told = diagnose(replace(CARD, stored_status=S.SEALED), HOME, ADULT, ALONE, NOW)
    guide = {way.channel: way.materials for way in HOME.activation_guide("adult").ways}
    assert ways(by_code(told)["sealed"]) == {("activate", channel): materials for channel, materials in guide.items()}


def test_for_a_minor_the_guardian_comes_along_or_is_linked() -> None:
    told = by_code(diagnose(replace(CARD, stored_status=S.SEALED), HOME, MINOR, ALONE, NOW))
    assert ways(told["guardianRequired"]) == ways(told["sealed"])
    for (_, place), materials in ways(told["sealed"]).items():
        assert set(materials) >= ({"guardianLink"} if place in ONLINE else {"guardianIdCard", "householdRegister"})
    lost = by_code(diagnose(replace(CARD, stored_status=S.TEMPORARILY_LOST), HOME, MINOR, ALONE, NOW))["temporarilyLost"]
    assert ways(lost)["cancelLoss", "app"] == ("guardianLink",)
    assert ways(lost)["cancelLoss", "bureau"] == ("guardianIdCard", "householdRegister")


def test_a_region_apart_sends_its_people_to_a_counter() -> None:
    apart = REGIONS.get("990300")
    told = by_code(diagnose(replace(CARD, stored_status=S.SEALED, region_code="990300"), apart, APART, ALONE, NOW))
    for code in ("sealed", "regionNotInterconnected"):
        assert {place for _, place in ways(told[code])} == {"bank", "bureau", "hotline"}


def test_a_lost_card_can_be_found_or_replaced_where_the_region_lets_it() -> None:
    for region in REGIONS:
        lost = replace(CARD, stored_status=S.FORMALLY_LOST, region_code=region.code)
        blocker = by_code(diagnose(lost, region, ADULT, ALONE, NOW))["formallyLost"]
        assert {action for action, _ in ways(blocker)} == (
            {"replace", "cancelLoss"} if region.policy.formal_loss_cancellable else {"replace"}
        )
        assert ways(blocker)["replace", "bureau"] == ("idCard",)


def test_the_end_of_a_card_is_not_the_end_of_its_holders_claim() -> None:
    ended = replace(CARD, stored_status=S.CANCELLED, stored_medical=MedicalStatus.NORMAL)
    assert {action for action, _ in ways(by_code(diagnose(ended, HOME, ADULT, ALONE, NOW))["cancelled"])} == {"apply"}
    # Who has another goes on with that one.
    another = replace(CARD, card_id=OTHER, stored_status=S.SEALED)
    assert not by_code(diagnose(ended, HOME, ADULT, Prospects([another], insured=True), NOW))["cancelled"].steps


def test_who_is_no_longer_insured_gets_no_new_card() -> None:
    over = Prospects((), insured=False)
    for status in (S.CANCELLED, S.FORMALLY_LOST, S.ACTIVE):
        card = replace(CARD, stored_status=status, expires_on=date(2020, 1, 1), stored_medical=MedicalStatus.CLOSED)
        told = by_code(diagnose(card, HOME, ADULT, over, NOW))
        assert "medicalClosed" in told
        assert not {action for blocker in told.values() for action, _ in ways(blocker)} & {"apply", "replace"}


def test_who_has_the_new_card_is_not_sent_for_another() -> None:
    region, now = REGIONS.get("990500"), datetime(2032, 6, 1, tzinfo=UTC)
    old = replace(CARD, stored_status=S.ACTIVE, generation=2, region_code="990500")
    new = replace(CARD, card_id=OTHER, stored_status=S.SEALED, region_code="990500")
    assert {action for action, _ in ways(by_code(diagnose(old, region, ADULT, ALONE, now))["retired"])} == {"replace"}
    assert not by_code(diagnose(old, region, ADULT, Prospects([new], insured=True), now))["retired"].steps
    for over in (
        replace(new, stored_status=S.CANCELLED),
        replace(new, generation=2),
        replace(new, expires_on=date(2020, 1, 1)),
    ):
        assert by_code(diagnose(old, region, ADULT, Prospects([over], insured=True), now))["retired"].steps


def test_a_card_on_its_way_is_collected_where_the_region_hands_it_out() -> None:
    for region in REGIONS:
        coming = replace(CARD, stored_status=S.SEALED, stage=Stage.RECEIVED_BY_CITY, region_code=region.code)
        told = diagnose(coming, region, ADULT, ALONE, NOW)
        assert ways(by_code(told)["notDelivered"]) == {("collect", region.policy.collection): ("idCard",)}
        assert not told.can_activate


def test_every_code_has_a_text_in_both_languages() -> None:
    codes = {
        blocker.code
        for status, bank, medical, pin, test, about in product(
            Status, BankStatus, MedicalStatus, PinState, (True, False), (ADULT, replace(MINOR, served=False))
        )
        for blocker in diagnose(
            replace(
                CARD,
                generation=2,
                stored_status=status,
                stage=Stage.ACCEPTED,
                test_batch=test,
                bank=Bank("B901", None, bank),
                stored_medical=medical,
                pin=Pin(pin, 0),
                expires_on=date(2020, 1, 1),
                region_code="990400",
                temporary_loss_until=ENDS,
            ),
            REGIONS.get("990400"),
            about,
            ALONE,
            NOW,
        ).blockers
    }
    assert codes >= {"retired", "expired", "bankDormant", "medicalFrozen", "pinInitial", "regionNotInterconnected"}
    for code, locale in product(codes, LOCALES):
        assert text(locale, f"reasons.{code}")
