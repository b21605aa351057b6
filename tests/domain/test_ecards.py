"""What an e-card is good for follows from its card, whatever the card is."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.actors import STAFF_ROLES
from service.cards import Bank, BankStatus, Card, MedicalStatus, Pin, PinState, Stage, Status
from service.ecard_codes import REDEEMERS, may_redeem, new_code, redeeming_channels
from service.ecards import MOST_TRIES, Ecard, EcardLevel, ecard_id_of, standing_of, unfit
from service.ids import CardId, HolderId, InstitutionId, OperatorId, derived_id, is_id
from service.locale import Bilingual, catalogue
from service.operators import DESIGNABLE, WORKPLACES, Institution, Operator
from service.regions import SHIPPED, Regions

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
REGION = Regions.load_directory(SHIPPED).get("990100")
HOLDER = HolderId(derived_id("hld", "somebody"))


def card(**instead: object) -> Card:
    made = Card(
        card_id=CardId(derived_id("card", "somebody")),
        holder_id=HOLDER,
        region_code="990100",
        number="Z02541905",
        identification_code="990100D1560000050123456789ABCDEF",
        holder_name="某某",
        generation=3,
        bank=Bank("B901", None, BankStatus.ACTIVE),
        stage=Stage.DELIVERED,
        test_batch=False,
        stored_status=Status.ACTIVE,
        temporary_loss_until=None,
        activation=None,
        stored_medical=MedicalStatus.NORMAL,
        pin=Pin(PinState.INITIAL, 0),
        expires_on=date(2035, 8, 31),
        version=1,
    )
    return replace(made, **instead)  # type: ignore[arg-type]  # whatever a test is about


def ecard(level: EcardLevel, *, wrong_tries: int = 0, hashed: str | None = "hash") -> Ecard:
    return Ecard(
        ecard_id=ecard_id_of(HOLDER),
        holder_id=HOLDER,
        card_id=CardId(derived_id("card", "somebody")),
        level=level,
        password=hashed,
        wrong_tries=wrong_tries,
        version=1,
        applied_at=NOW,
        changed_at=NOW,
    )


any_card = st.builds(
    card,
    stored_status=st.sampled_from(Status),
    temporary_loss_until=st.one_of(st.none(), st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))),  # noqa: DTZ001  the strategy adds the zone
    stage=st.sampled_from(Stage),
    test_batch=st.booleans(),
    expires_on=st.dates(date(2026, 1, 1), date(2036, 1, 1)),
    generation=st.integers(1, 3),
    bank=st.builds(Bank, st.just("B901"), st.none(), st.sampled_from(BankStatus)),
)


@given(any_card)
def test_only_a_card_in_use_carries_one_and_everything_else_has_a_reason_with_a_text(shown: Card) -> None:
    reason = unfit(shown, 1, REGION, NOW)
    in_use = (
        shown.status(NOW) is Status.ACTIVE
        and shown.stage is Stage.DELIVERED
        and not shown.test_batch
        and not shown.is_expired(NOW)
        and not REGION.is_retired(shown.generation, NOW)
    )
    assert (reason is None) is in_use
    assert reason is None or f"reasons.{reason}" in catalogue()


@given(any_card, st.sampled_from([1, 2]), st.integers(0, MOST_TRIES))
def test_what_pays_is_usable_and_takes_an_active_account_and_a_password_that_is_not_locked(
    shown: Card, level: EcardLevel, wrong_tries: int
) -> None:
    standing = standing_of(ecard(level, wrong_tries=wrong_tries), shown, REGION, NOW)
    assert standing.reason == unfit(shown, 1, REGION, NOW)
    assert standing.status == ("usable" if standing.reason is None else "unusable")
    pays = standing.payment_reason is None
    assert pays is (
        standing.reason is None and level == 2 and shown.bank.status is BankStatus.ACTIVE and wrong_tries < MOST_TRIES
    )
    assert pays or f"reasons.{standing.payment_reason}" in catalogue()


def test_a_temporary_loss_that_is_over_is_no_loss() -> None:
    lost = card(stored_status=Status.TEMPORARILY_LOST, temporary_loss_until=NOW + timedelta(seconds=1))
    assert standing_of(ecard(1), lost, REGION, NOW).reason == "temporarilyLost"
    assert standing_of(ecard(1), lost, REGION, NOW + timedelta(seconds=1)).reason is None


def test_the_password_is_in_no_representation() -> None:
    assert "hash" not in repr(ecard(2))
    assert [ecard(1, hashed=None).password_state, ecard(1).password_state, ecard(1, wrong_tries=5).password_state] == [
        *("none", "set", "locked")
    ]


def test_an_id_says_nothing_but_whose_it_is() -> None:
    assert is_id("ecd", ecard_id_of(HOLDER))
    assert ecard_id_of(HOLDER) != ecard_id_of(HolderId(derived_id("hld", "somebody else")))


def test_codes_are_random_and_fit_into_a_small_picture() -> None:
    codes = {new_code() for _ in range(1000)}
    assert len(codes) == 1000
    assert {len(code) for code in codes} == {32}


def operator(role: str, *, designated: bool) -> Operator:
    place = Institution(
        institution_id=InstitutionId(derived_id("ins", role)),
        names=Bilingual(zh="某处", en="Somewhere"),
        kind=WORKPLACES[role],  # type: ignore[index]  # every role is tried
        region_codes=("990100",),
        bank_code=None,
        credit_code="91990100PDY00001XX",
        redeems_ecards=designated,
    )
    return Operator(OperatorId(derived_id("op", role)), role, "某某", role, place, disabled=False)  # type: ignore[arg-type]  # words come as texts here


@pytest.mark.parametrize("role", STAFF_ROLES)
@pytest.mark.parametrize("level", [1, 2])
def test_who_redeems_what_is_the_table_and_nobody_without_being_designated(role: str, level: EcardLevel) -> None:
    allowed = {("hospitalClerk", 1), ("hospitalClerk", 2), ("bankTeller", 2)}
    assert may_redeem(operator(role, designated=True), level) is ((role, level) in allowed)
    assert not may_redeem(operator(role, designated=False), level)


def test_whoever_may_redeem_works_where_that_can_be_designated() -> None:
    assert {WORKPLACES[role] for role in REDEEMERS} == DESIGNABLE
    assert (redeeming_channels(1), redeeming_channels(2)) == (["hospital"], ["bank", "hospital"])
