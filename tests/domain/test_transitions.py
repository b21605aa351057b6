"""The table of transitions: every cell as the domain has it, and every reader of it saying the same."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from domain.test_cards import CARD, NOW, REGIONS
from hypothesis import given
from hypothesis import strategies as st

from service.actors import COUNTERS, STAFF_ROLES, Actor, Role, holder_actor
from service.cards import Bank, BankStatus, Card, Pin, PinState, Stage, Status
from service.locale import LOCALES, text
from service.regions import CHANNELS, Region
from service.transitions import (
    PERMITTED,
    POLICY_KEYS,
    TRANSITIONS,
    Action,
    Circumstances,
    Offer,
    allowed,
    channels_for,
    judge,
    judge_activation,
    needs_second_person,
    offers,
    policy_key,
    refusal,
    refusal_of,
)

A, S = Action, Status
HOLDER = holder_actor(CARD.holder_id, "app")
ADULT = Circumstances("adult", minor=False, guardian=False, served=True)
HOME = REGIONS.get("990100")
LOST_UNTIL = NOW + timedelta(days=1)


def card(status: Status = S.ACTIVE, **changes: Any) -> Card:
    until = LOST_UNTIL if status is S.TEMPORARILY_LOST else None
    return replace(CARD, stored_status=status, temporary_loss_until=until, **changes)


def operator(role: Role, *, region: str = "990100", bank: str = "B901") -> Actor:
    counter = COUNTERS.get(role)  # type: ignore[arg-type]  # a holder has none
    return Actor("op_x", role, counter, frozenset({region}), "ins_x", bank if role == "bankTeller" else None)


def somebody(role: Role) -> Actor:
    return HOLDER if role == "holder" else operator(role)


# The domain's table, written a second time and from the paper: what each action makes of each status it is allowed from.
ALLOWED: dict[Action, dict[Status, Status | None]] = {
    A.ACTIVATE: {S.SEALED: S.ACTIVE},
    A.REPORT_TEMPORARY_LOSS: {S.ACTIVE: S.TEMPORARILY_LOST},
    A.REPORT_FORMAL_LOSS: {S.ACTIVE: S.FORMALLY_LOST, S.TEMPORARILY_LOST: S.FORMALLY_LOST},
    A.CANCEL_LOSS: {S.TEMPORARILY_LOST: S.ACTIVE, S.FORMALLY_LOST: S.ACTIVE},
    A.REPLACE: {S.ACTIVE: None, S.FORMALLY_LOST: None},
    A.LOCK: {S.ACTIVE: S.LOCKED},
    A.UNLOCK: {S.LOCKED: S.ACTIVE},
    A.CANCEL: {status: S.CANCELLED for status in Status if status is not S.CANCELLED},
    A.REVERSE_ACTIVATION: {S.ACTIVE: S.SEALED},
    A.CHANGE_PIN: {S.SEALED: None, S.ACTIVE: None},
    A.RESET_PIN: {S.SEALED: None, S.ACTIVE: None},
    A.CHECK_PIN: {S.ACTIVE: None},
    A.ACTIVATE_BANK: {S.ACTIVE: None},
}


@pytest.mark.parametrize(("action", "status"), [*product(Action, Status)])
def test_every_cell_of_the_table_is_as_the_domain_has_it(action: Action, status: Status) -> None:
    reason = refusal_of(action, card(status), HOME, NOW)
    assert (reason is None) == (status in ALLOWED[action])
    if reason is None:
        assert TRANSITIONS[action].target is ALLOWED[action][status]
    else:
        # The reason is the state itself, but for what is no refusal at all when it is an activation.
        assert reason == ("alreadyActivated" if (action, status) == (A.ACTIVATE, S.ACTIVE) else status)


def test_every_action_has_its_row_and_nothing_leads_out_of_cancelled() -> None:
    assert [*TRANSITIONS] == [*Action]
    for action, row in TRANSITIONS.items():
        assert row.action is action
        assert row.target not in row.sources
        assert S.CANCELLED not in row.sources | row.if_over
    happenings = [row.happening for row in TRANSITIONS.values()]
    assert len(set(happenings)) == len(happenings)


@pytest.mark.parametrize(("action", "stage"), [*product(Action, Stage)])
@pytest.mark.parametrize("test_batch", [False, True])
def test_before_delivery_and_in_a_test_batch_a_card_can_only_be_cancelled(
    action: Action, stage: Stage, *, test_batch: bool
) -> None:
    """Article 12: a card of a batch under test can be neither delivered nor activated; production comes before status."""
    reason = refusal_of(action, card(S.SEALED, stage=stage, test_batch=test_batch), HOME, NOW)
    if action is A.CANCEL:
        assert reason is None
    elif S.SEALED not in ALLOWED[action]:
        assert reason == S.SEALED
    else:
        assert reason == ("testCard" if test_batch else None if stage is Stage.DELIVERED else "notDelivered")


@pytest.mark.parametrize(("action", "status"), [*product(Action, Status)])
def test_with_an_expired_card_one_can_get_another_end_it_or_unlock_it_for_that(action: Action, status: Status) -> None:
    reason = refusal_of(action, card(status, expires_on=date(2026, 11, 21)), HOME, NOW)
    if action is A.REPLACE:
        assert (reason is None) == (status not in {S.LOCKED, S.CANCELLED})
    elif action in {A.CANCEL, A.UNLOCK}:
        assert (reason is None) == (status in ALLOWED[action])
    else:
        assert reason == ("expired" if status in ALLOWED[action] else refusal_of(action, card(status), HOME, NOW))


# In 990500 generation 2 is retired from 31 December 2031 on, as the calendar at +08:00 has it.
RETIRING = REGIONS.get("990500")
LAST_MOMENT = datetime(2031, 12, 30, 15, 59, 59, tzinfo=UTC)
CUT_OFF = LAST_MOMENT + timedelta(seconds=1)


def _old_and_new(status: Status) -> tuple[Card, Card]:
    new = replace(card(status, region_code="990500"), temporary_loss_until=None)
    return replace(new, generation=2), new


@pytest.mark.parametrize(("action", "status"), [*product(Action, Status)])
def test_in_the_transition_the_old_generation_works_like_the_new(action: Action, status: Status) -> None:
    old, new = _old_and_new(status)
    assert refusal_of(action, old, RETIRING, LAST_MOMENT) == refusal_of(action, new, RETIRING, LAST_MOMENT)


@pytest.mark.parametrize(("action", "status"), [*product(Action, Status)])
def test_from_the_cut_off_on_an_old_card_can_only_be_replaced_or_ended(action: Action, status: Status) -> None:
    old, new = _old_and_new(status)
    reason = refusal_of(action, old, RETIRING, CUT_OFF)
    if action is A.REPLACE:
        assert reason == (status if status in {S.LOCKED, S.CANCELLED} else None)
    elif action in {A.CANCEL, A.UNLOCK}:
        assert (reason is None) == (status in ALLOWED[action])
    else:
        assert reason == ("retired" if status in ALLOWED[action] else refusal_of(action, new, RETIRING, CUT_OFF))


def test_the_last_day_is_a_day_of_use() -> None:
    assert refusal_of(A.ACTIVATE, card(S.SEALED, expires_on=date(2026, 11, 22)), HOME, NOW) is None


@pytest.mark.parametrize(("action", "seconds"), [*product(Action, (-1, 0, 1))])
def test_a_temporary_loss_that_ran_out_is_judged_as_an_active_card(action: Action, seconds: int) -> None:
    lost = card(S.TEMPORARILY_LOST)
    at = LOST_UNTIL + timedelta(seconds=seconds)
    assert refusal_of(action, lost, HOME, at) == refusal_of(
        action, card(S.TEMPORARILY_LOST if seconds < 0 else S.ACTIVE), HOME, NOW
    )


# Who may what, from the paper on the domain.


def test_who_stands_behind_no_counter_touches_no_card() -> None:
    for role in STAFF_ROLES:
        assert bool(PERMITTED[role]) == (role in COUNTERS)
    assert set(PERMITTED) == {*STAFF_ROLES, "holder"}


def test_the_bound_of_each_role_is_as_the_domain_has_it() -> None:
    everybody = {role for role in PERMITTED if PERMITTED[role]}
    who = {action: {role for role in PERMITTED if action in PERMITTED[role]} for action in Action}
    bureau = {"bureauClerk", "bureauSupervisor"}
    assert who[A.ACTIVATE] == everybody
    assert who[A.ACTIVATE_BANK] == {"bankTeller"}
    assert who[A.CHECK_PIN] == {"hospitalClerk"}
    assert who[A.REPORT_TEMPORARY_LOSS] == everybody - {"hospitalClerk"}
    assert who[A.REPORT_FORMAL_LOSS] == who[A.CANCEL_LOSS] == who[A.REPLACE] == {"holder", "bankTeller"} | bureau
    assert who[A.LOCK] == who[A.UNLOCK] == who[A.CANCEL] == who[A.REVERSE_ACTIVATION] == bureau
    assert who[A.CHANGE_PIN] == everybody - {"hotlineAgent"}
    # Nobody resets their own PIN: a counter has looked at their ID card.
    assert who[A.RESET_PIN] == {"bankTeller", "hospitalClerk"} | bureau


@pytest.mark.parametrize("region", [*REGIONS], ids=lambda region: region.code)
@pytest.mark.parametrize(("action", "status"), [*product(Action, Status)])
def test_the_policy_narrows_and_never_widens(region: Region, action: Action, status: Status) -> None:
    key = policy_key(action, status)
    for role in PERMITTED:
        actor = operator(role, region=region.code) if role != "holder" else HOLDER
        objection = judge(action, replace(card(status), region_code=region.code), actor, region, NOW)
        nowhere = action is A.ACTIVATE and actor.channel not in {way.channel for way in region.policy.activation}
        if nowhere or action not in PERMITTED[role]:
            assert objection is not None
            assert objection.code == "channel_not_allowed"
        elif key and actor.channel not in region.policy.channels[key]:
            assert objection is not None
            never = not region.policy.channels[key]
            assert objection.code == ("transition_not_allowed" if never else "channel_not_allowed")
            assert objection.reason == ("notInThisRegion" if never else "channelNotAllowed")
        elif objection is not None:
            assert objection.code not in {"channel_not_allowed", "guardian_required"}


def test_every_line_of_the_policy_that_is_about_cards_narrows_something() -> None:
    narrowing = {
        *POLICY_KEYS.values(),
        *(policy_key(A.CANCEL_LOSS, S(status)) for status in (S.TEMPORARILY_LOST, S.FORMALLY_LOST)),
    }
    assert narrowing == set(HOME.policy.channels) - {"confirmInformation"}


def test_a_bank_touches_its_own_cards_and_a_counter_those_of_its_regions() -> None:
    one = card(bank=Bank("B901", None, BankStatus.PENDING))
    assert judge(A.ACTIVATE_BANK, one, operator("bankTeller"), HOME, NOW) is None
    for actor in (operator("bankTeller", bank="B902"), operator("bankTeller", region="990200")):
        for action in PERMITTED["bankTeller"] - {A.ACTIVATE}:
            assert refusal(action, one, actor, HOME, NOW, about=None).code == "channel_not_allowed"  # type: ignore[union-attr]  # none is a failure here
    assert refusal(A.LOCK, one, operator("bureauClerk", region="990200"), HOME, NOW, about=None).code == "channel_not_allowed"  # type: ignore[union-attr]  # none is a failure here


def test_an_account_is_activated_once_and_only_where_there_is_one() -> None:
    teller = operator("bankTeller")
    reasons = {BankStatus.PENDING: None, BankStatus.DORMANT: None, BankStatus.ACTIVE: "bankActive"}
    reasons |= {BankStatus.NONE: "bankNone", BankStatus.CLOSED: "bankClosed"}
    for status in BankStatus:
        objection = judge(A.ACTIVATE_BANK, card(bank=Bank("B901", None, status)), teller, HOME, NOW)
        assert (objection.reason if objection else None) == reasons[status]


def test_a_locked_pin_stands_in_the_way_of_its_change_and_of_nothing_else() -> None:
    most = HOME.policy.service_pin.max_tries
    for pin in (Pin(PinState.LOCKED, 0), Pin(PinState.SET, most), Pin(PinState.INITIAL, most)):
        stuck = card(pin=pin)
        assert {offer.reason for offer in _offers(stuck) if offer.action is A.CHANGE_PIN} == {"pinLocked"}
        assert [offer for offer in _offers(stuck) if offer.action is not A.CHANGE_PIN] == [
            offer for offer in _offers(card()) if offer.action is not A.CHANGE_PIN
        ]
        assert judge(A.RESET_PIN, stuck, operator("bureauClerk"), HOME, NOW) is None


def test_what_takes_two_people() -> None:
    assert {action for action in Action if needs_second_person(action, card())} == {A.CANCEL, A.REVERSE_ACTIVATION}
    assert needs_second_person(A.UNLOCK, card(S.LOCKED, lock_reason="fraud"))
    assert not needs_second_person(A.UNLOCK, card(S.LOCKED, lock_reason="holderRequest"))


# The screen and the server.


def _offers(one: Card, actor: Actor = HOLDER, region: Region = HOME, about: Circumstances = ADULT) -> tuple[Offer, ...]:
    return offers(one, actor, region, about, NOW)


CARDS = st.builds(
    replace,
    st.just(CARD),
    stored_status=st.sampled_from(Status),
    temporary_loss_until=st.one_of(st.none(), st.sampled_from([NOW - timedelta(days=1), NOW, LOST_UNTIL])),
    stage=st.sampled_from([Stage.RECEIVED_BY_CITY, Stage.DELIVERED]),
    test_batch=st.booleans(),
    expires_on=st.sampled_from([date(2020, 1, 1), date(2035, 8, 31)]),
    bank=st.builds(Bank, st.sampled_from(["B901", "B902"]), st.none(), st.sampled_from(BankStatus)),
    pin=st.builds(Pin, st.sampled_from(PinState), st.integers(0, 10)),
    lock_reason=st.sampled_from([None, "holderRequest", "fraud"]),
)


@given(one=CARDS, role=st.sampled_from([*PERMITTED]), region=st.sampled_from([*REGIONS]))
def test_what_is_offered_is_what_is_accepted_and_every_refusal_names_the_state_and_the_rest(
    one: Card, role: Role, region: Region
) -> None:
    one = replace(one, region_code=region.code)
    actor = HOLDER if role == "holder" else operator(role, region=region.code)
    shown = {offer.action: offer.reason for offer in _offers(one, actor, region)}
    assert set(shown) == PERMITTED[role]
    for action in Action:
        no = refusal(action, one, actor, region, NOW, about=ADULT)
        if action not in shown:
            assert no is not None
            assert no.code == "channel_not_allowed"
            continue
        # For whom an activation is, is asked besides; here for an adult whose card is served.
        objection = (
            judge_activation(one, actor, region, ADULT, NOW) if action is A.ACTIVATE else judge(action, one, actor, region, NOW)
        )
        assert shown[action] == (objection.reason if objection else None)
        if no is not None and no.code == "transition_not_allowed":
            assert no.facts["from"] == one.status(NOW)
            assert no.facts["reason"] == shown[action]
            assert no.facts["allowed"] == allowed(one, actor, region, NOW, ADULT)
            assert action not in allowed(one, actor, region, NOW, ADULT)
        if no is None:
            assert action in allowed(one, actor, region, NOW, ADULT)


@given(one=CARDS, region=st.sampled_from([*REGIONS]))
def test_the_way_out_that_is_named_is_a_way(one: Card, region: Region) -> None:
    """Where an action is open through a channel, somebody who stands there may do it, if the card allows it at all."""
    one = replace(one, region_code=region.code)
    for action in Action:
        for channel in channels_for(action, one.status(NOW), region):
            there = [
                role for role in PERMITTED if (channel in {"app", "web"} if role == "holder" else COUNTERS.get(role) == channel)
            ]
            actors = [
                holder_actor("hld_x", channel) if role == "holder" else operator(role, region=region.code, bank=one.bank.code)
                for role in there
            ]
            codes = [objection.code if (objection := judge(action, one, actor, region, NOW)) else None for actor in actors]
            assert set(codes) != {"channel_not_allowed"}, (action, channel)
    assert set(CHANNELS) >= {channel for action in Action for channel in channels_for(action, one.status(NOW), region)}


def test_a_minor_activates_through_a_guardian_only_and_a_region_apart_not_at_all() -> None:
    sealed = card(S.SEALED)
    minor = Circumstances("minor", minor=True, guardian=False, served=True)
    assert judge_activation(sealed, HOLDER, HOME, minor, NOW).code == "guardian_required"  # type: ignore[union-attr]  # none is a failure here
    assert judge_activation(sealed, HOLDER, HOME, replace(minor, guardian=True), NOW) is None
    apart = judge_activation(sealed, HOLDER, HOME, replace(ADULT, served=False), NOW)
    assert apart is not None
    assert (apart.code, apart.facts["regionCode"]) == ("region_not_interconnected", "990100")
    assert set(apart.facts["channels"]) == {"bank", "hospital", "bureau", "hotline"}  # type: ignore[call-overload]  # facts may be anything; these are words


@given(one=CARDS, role=st.sampled_from([*PERMITTED]))
def test_an_activation_is_promised_only_where_it_is_known_for_whom(one: Card, role: Role) -> None:
    actor = somebody(role)
    known = allowed(one, actor, HOME, NOW, ADULT)
    assert allowed(one, actor, HOME, NOW, None) == [action for action in known if action is not A.ACTIVATE]
    for about in (Circumstances("minor", minor=True, guardian=False, served=True), replace(ADULT, served=False)):
        assert A.ACTIVATE not in allowed(one, actor, HOME, NOW, about)


def test_every_reason_has_a_text_in_both_languages() -> None:
    reasons = {"retired"} | {
        offer.reason
        for role in PERMITTED
        for region in REGIONS
        for status, stage, test, expired, bank, pin in product(
            Status, (Stage.ACCEPTED, Stage.DELIVERED), (True, False), (True, False), BankStatus, PinState
        )
        for about in (ADULT, Circumstances("minor", minor=True, guardian=False, served=True), replace(ADULT, served=False))
        for offer in offers(
            card(
                status,
                stage=stage,
                test_batch=test,
                expires_on=date(2020, 1, 1) if expired else CARD.expires_on,
                bank=Bank("B901", None, bank),
                pin=Pin(pin, 0),
                region_code=region.code,
            ),
            HOLDER if role == "holder" else operator(role, region=region.code),
            region,
            about,
            NOW,
        )
    } - {None}
    assert reasons >= {*Status, "alreadyActivated", "pinLocked", "bankClosed", "guardianRequired", "notInThisRegion", "expired"}
    for reason, locale in product(reasons, LOCALES):
        assert text(locale, f"reasons.{reason}")
