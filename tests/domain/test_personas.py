"""Everybody of the contract lives in the sandbox, can be played, can be told from real people, and stays who they are."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Final

import pytest

from service.activations import circumstances_of
from service.actors import holder_actor
from service.balances import Account
from service.cards import BankStatus, MedicalStatus, PinState, Stage, Status
from service.clock import CHINA
from service.numbers import (
    normalise,
    parse_bank_number,
    parse_card_number,
    parse_credit_code,
    parse_identification_code,
    parse_mobile,
    parse_resident_id,
)
from service.operators import WORKPLACES
from service.pins import initial_pin, weaknesses
from service.regions import SHIPPED, Regions
from service.sandbox.invention import is_invented, is_invented_name, is_invented_region
from service.sandbox.personas import CastError, Person, cast, people, staff
from service.sandbox.records import CardRecord, card_records, dependant_records, holder_record, with_pin_hash
from service.transitions import Action, offers, refusal_of

NOW: Final = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
TODAY: Final = NOW.astimezone(CHINA).date()
REGIONS: Final = Regions.load_directory(SHIPPED)
EVERYBODY: Final = cast(REGIONS)
PEOPLE: Final = {person.key: person for person in people(EVERYBODY)}
OPERATORS: Final = {one.key: one for one in staff(EVERYBODY)}

HOLDER_KEYS: Final = (
    *("sealed", "sealed2", "sealed3", "sealed4", "sealed5", "active", "temporarily-lost", "formally-lost"),
    *("locked", "cancelled", "not-delivered", "test-card", "frozen-medical", "cross-region", "not-interconnected"),
    *("two-generations", "old-generation", "hk-resident", "retired-region-id", "guardian", "minor", "unlinked-minor"),
    *("flexible-worker", "insurance-ended", "level3-region", "other-format", "no-consent", "with-email"),
)
ELSEWHERE: Final = {"bureau2": "990200", "employer2": "990400"}
OPERATOR_KEYS: Final = (
    *("bank-own", "bank-other", "hospital", "bureau", "bureau-supervisor", "bureau-supervisor2", "bureau2"),
    *("hotline", "employer", "employer2", "production"),
)


def records_of(key: str, now: datetime = NOW) -> list[CardRecord]:
    return card_records(PEOPLE[key], REGIONS, now)


def record_of(key: str, now: datetime = NOW) -> CardRecord:
    (record,) = records_of(key, now)
    return record


def assert_all_different(values: Sequence[object]) -> None:
    assert len(values) == len(set(values))


def test_everybody_of_the_contract_is_here_and_nobody_twice() -> None:
    assert {*PEOPLE} == {*HOLDER_KEYS}
    assert {*OPERATORS} == {*OPERATOR_KEYS}
    assert len(EVERYBODY) == len(HOLDER_KEYS) + len(OPERATOR_KEYS)


def test_a_cast_is_the_same_every_time() -> None:
    assert cast(Regions.load_directory(SHIPPED)) == EVERYBODY


def test_published_ids_and_numbers_do_not_change_between_releases() -> None:
    sealed, operator = PEOPLE["sealed"], OPERATORS["bank-own"]
    assert sealed.holder_id == "hld_hfoh6t63bm4nllvekgsv46uj"
    assert (sealed.id_number.number, sealed.cards[0].number, operator.operator.username) == (
        "198189199112069129",
        "Z02541905",
        "bank-own.6470",
    )


@pytest.mark.parametrize("key", HOLDER_KEYS)
def test_every_number_of_a_resident_is_accepted_in_its_canonical_form(key: str) -> None:
    person = PEOPLE[key]
    assert parse_resident_id(person.id_number.number, today=TODAY) == person.id_number
    assert parse_mobile(person.mobile) == person.mobile
    for card in person.cards:
        card_number_format = REGIONS.get(card.region_code).policy.card_number
        assert parse_card_number(card.number, card_number_format) == card.number
        assert len(card.number) == card_number_format.length
        code = parse_identification_code(card.identification_code)
        assert (code.code, code.region_code) == (card.identification_code, card.region_code)
        assert parse_bank_number(card.bank_account) == card.bank_account
        assert card.bank_code in {bank.code for bank in REGIONS.get(card.region_code).banks}
        assert card.generation in {g.number for g in REGIONS.get(card.region_code).policy.generations}


@pytest.mark.parametrize("key", HOLDER_KEYS)
def test_everything_about_a_resident_is_marked_as_invented(key: str) -> None:
    person = PEOPLE[key]
    assert is_invented(person.id_number.number)
    assert is_invented_name(person.name)
    assert is_invented_region(person.region_code)
    assert all(is_invented_region(card.region_code) for card in person.cards)


@pytest.mark.parametrize("key", OPERATOR_KEYS)
def test_an_operator_is_complete_and_marked_as_invented(key: str) -> None:
    one = OPERATORS[key]
    operator, where = one.operator, one.operator.institution
    assert is_invented_name(operator.name)
    assert re.fullmatch(rf"{key}\.[0-9]{{4}}", operator.username)
    assert re.fullmatch(r"[A-Z2-7]{32}", one.totp_secret)
    assert len(one.password) == 16
    assert parse_credit_code(where.credit_code) == where.credit_code
    assert where.region_codes == (ELSEWHERE.get(key, "990100"),)
    assert WORKPLACES[operator.role] == where.kind
    assert "虚构" in where.names.zh
    assert "nvented" in where.names.en
    assert (where.bank_code is not None) == (where.kind == "bank")


def test_no_number_belongs_to_two_people() -> None:
    residents, cards = [*PEOPLE.values()], [card for person in PEOPLE.values() for card in person.cards]
    for values in (
        [person.holder_id for person in residents],
        [person.id_number.number for person in residents],
        [person.mobile for person in residents],
        [person.query_password for person in residents],
        [card.card_id for card in cards],
        [card.number for card in cards],
        [card.identification_code for card in cards],
        [card.bank_account for card in cards],
        [one.operator.operator_id for one in OPERATORS.values()],
        [one.operator.username for one in OPERATORS.values()],
        [operator.totp_secret for operator in OPERATORS.values()],
    ):
        assert_all_different(values)
    institutions = {one.operator.institution for one in OPERATORS.values()}
    assert len(institutions) == len({i.institution_id for i in institutions}) == len({i.credit_code for i in institutions})


@pytest.mark.parametrize(
    ("key", "insured", "issued"),
    [
        ("sealed", "990100", ["990100"]),
        ("frozen-medical", "990400", ["990400"]),
        ("cross-region", "990200", ["990100"]),
        ("not-interconnected", "990100", ["990300"]),
        ("two-generations", "990500", ["990500", "990500"]),
        ("old-generation", "990500", ["990500"]),
        ("level3-region", "990700", ["990700"]),
        ("other-format", "990600", ["990600"]),
    ],
)
def test_people_are_insured_and_carded_where_their_part_needs_it(key: str, insured: str, issued: list[str]) -> None:
    person = PEOPLE[key]
    assert (person.region_code, [card.region_code for card in person.cards]) == (insured, issued)


def test_a_card_of_an_interconnected_region_is_served_and_one_of_another_is_not() -> None:
    def served(person: Person) -> bool:
        return REGIONS.get(person.region_code).serves_cards_of(REGIONS.get(person.cards[0].region_code))

    assert [key for key, person in PEOPLE.items() if not served(person)] == ["not-interconnected"]
    assert PEOPLE["cross-region"].region_code != PEOPLE["cross-region"].cards[0].region_code


def test_the_special_id_numbers_are_of_the_kinds_their_keys_say() -> None:
    assert PEOPLE["hk-resident"].id_number.kind == "hkmoTw"
    assert PEOPLE["hk-resident"].id_number.number.startswith("81")
    assert PEOPLE["retired-region-id"].id_number.region_prefix == "132701"
    assert PEOPLE["retired-region-id"].id_number.kind == "resident"


def test_only_the_minors_are_minors() -> None:
    def minor(person: Person) -> bool:
        age = REGIONS.get(person.cards[0].region_code).policy.guardian_age
        return person.id_number.age_on(TODAY) < age

    assert {key for key, person in PEOPLE.items() if minor(person)} == {"minor", "unlinked-minor"}


def test_both_minors_are_of_the_guardians_household_and_one_of_them_is_linked() -> None:
    guardian, minor = PEOPLE["guardian"], PEOPLE["minor"]
    registers = [person.household_register for person in PEOPLE.values()]
    assert registers.count(guardian.household_register) == 3
    assert len(set(registers)) == len(registers) - 2
    (link,) = dependant_records(PEOPLE.values(), REGIONS)
    assert (link.guardian_id, link.holder_id) == (guardian.holder_id, minor.holder_id)
    assert link.dependant_id == guardian.dependants[0].dependant_id
    assert minor.id_number.age_on(link.until) == 16
    assert minor.id_number.age_on(link.until - timedelta(days=1)) == 15


@pytest.mark.parametrize(
    ("key", "status", "reason"),
    [
        *((key, Status.SEALED, None) for key in ("sealed", "sealed2", "sealed3", "sealed4", "sealed5")),
        *((key, Status.SEALED, None) for key in ("frozen-medical", "cross-region", "hk-resident", "minor")),
        ("active", Status.ACTIVE, "alreadyActivated"),
        ("guardian", Status.ACTIVE, "alreadyActivated"),
        ("flexible-worker", Status.ACTIVE, "alreadyActivated"),
        ("temporarily-lost", Status.TEMPORARILY_LOST, "temporarilyLost"),
        ("formally-lost", Status.FORMALLY_LOST, "formallyLost"),
        ("locked", Status.LOCKED, "locked"),
        ("cancelled", Status.CANCELLED, "cancelled"),
        ("not-delivered", Status.SEALED, "notDelivered"),
        ("test-card", Status.SEALED, "testCard"),
    ],
)
def test_a_card_is_in_the_state_its_part_needs(key: str, status: Status, reason: str | None) -> None:
    card = record_of(key).card
    assert card.status(NOW) is status
    assert refusal_of(Action.ACTIVATE, card, REGIONS.get(card.region_code), NOW) == reason


def test_a_temporary_loss_ends_after_the_days_of_its_region() -> None:
    card = record_of("temporarily-lost").card
    days = REGIONS.get("990100").policy.temporary_loss_days
    assert card.temporary_loss_until == NOW + timedelta(days=days)
    assert card.status(NOW + timedelta(days=days, seconds=-1)) is Status.TEMPORARILY_LOST
    assert card.status(NOW + timedelta(days=days)) is Status.ACTIVE


def test_only_one_medical_account_is_frozen_and_activation_unfreezes_it() -> None:
    frozen = [
        (key, record)
        for key in PEOPLE
        for record in records_of(key)
        if record.card.medical_alone(REGIONS.get(record.card.region_code), NOW) is MedicalStatus.FROZEN
    ]
    ((key, record),) = frozen
    assert key == "frozen-medical"
    activated = replace(record.card, stored_status=Status.ACTIVE)
    assert activated.medical_alone(REGIONS.get("990400"), NOW) is MedicalStatus.NORMAL


def test_the_old_generation_is_in_use_while_the_new_card_waits() -> None:
    old, new = records_of("two-generations")
    assert (old.card.generation, old.card.status(NOW)) == (2, Status.ACTIVE)
    assert (new.card.generation, new.card.status(NOW)) == (3, Status.SEALED)
    policy = REGIONS.get("990500").policy
    assert not policy.is_retired(2, TODAY)
    assert policy.cut_off_of(2) is not None


@pytest.mark.parametrize("key", HOLDER_KEYS)
def test_a_history_leads_from_sealed_to_the_status_the_card_has(key: str) -> None:
    for record in records_of(key):
        status, at = Status.SEALED, NOW - timedelta(days=3650)
        for entry in record.history:
            assert entry.before is status
            assert at < entry.at <= NOW
            status, at = entry.after, entry.at
        assert record.card.stored_status is status
        assert record.card.version == len(record.history)
        activation = record.card.activation
        first = record.history[0] if record.history else None
        assert (activation is None) == (first is None)
        if activation is not None and first is not None:
            assert (activation.at, activation.channel, first.happening) == (first.at, first.channel, "activated")
            assert activation.by == PEOPLE[key].holder_id


@pytest.mark.parametrize("key", HOLDER_KEYS)
def test_every_card_shows_three_accounts_that_are_about_a_day_old(key: str) -> None:
    for record in records_of(key):
        assert [figure.account for figure in record.figures] == [*Account]
        for figure in record.figures:
            assert timedelta(hours=12) < NOW - figure.as_of < timedelta(hours=48)
            # A housing fund account that is sealed or frozen keeps what is in it.
            assert (figure.balance_fen > 0) == (figure.status in {"normal", "sealed", "frozen"})
            assert figure.source


def test_a_minor_has_no_pension_and_no_housing_fund_yet() -> None:
    minor = {figure.account: figure.status for figure in record_of("minor").figures}
    assert minor == {Account.MEDICAL: "normal", Account.PENSION: "unopened", Account.HOUSING_FUND: "unopened"}
    assert {figure.status for figure in record_of("active").figures} == {"normal"}


def test_balances_are_the_same_after_every_reset() -> None:
    later = record_of("active", NOW + timedelta(days=30)).figures
    assert [figure.balance_fen for figure in later] == [figure.balance_fen for figure in record_of("active").figures]
    assert later[0].as_of - record_of("active").figures[0].as_of == timedelta(days=30)


def test_a_cancelled_card_takes_its_bank_and_medical_accounts_along() -> None:
    record = record_of("cancelled")
    assert (record.card.bank.status, record.card.stored_medical) == (BankStatus.CLOSED, MedicalStatus.CLOSED)
    assert record.figures[0].balance_fen == 0


def test_no_online_journey_activates_a_bank_account() -> None:
    pending = {key for key in PEOPLE if records_of(key)[-1].card.bank.status is BankStatus.PENDING}
    sealed = {key for key in PEOPLE if records_of(key)[-1].card.stored_status is Status.SEALED}
    assert pending == sealed


def test_a_card_of_a_test_batch_was_never_delivered() -> None:
    assert record_of("test-card").card.stage is Stage.RECEIVED_BY_BANK
    undelivered = {key for key in PEOPLE if records_of(key)[0].card.stage is not Stage.DELIVERED}
    assert undelivered == {"test-card", "not-delivered"}


def test_a_new_card_has_the_first_pin_of_its_region() -> None:
    six = re.compile(r"[0-9]{6}")
    assert all(six.fullmatch(person.service_pin) for person in PEOPLE.values())
    number = PEOPLE["sealed"].id_number.number
    assert PEOPLE["sealed"].service_pin == number.removesuffix("X")[-6:]
    assert PEOPLE["other-format"].service_pin == "123456"
    assert PEOPLE["two-generations"].service_pin not in PEOPLE["two-generations"].id_number.number


def test_a_part_is_explained_in_both_languages() -> None:
    for persona in EVERYBODY:
        assert re.search(r"[一-鿿]", persona.note.zh)
        assert persona.note.en.isascii()


def test_the_bank_on_the_cards_has_a_teller_and_so_has_another() -> None:
    assert {card.bank_code for key in HOLDER_KEYS[:12] for card in PEOPLE[key].cards} == {
        OPERATORS["bank-own"].operator.institution.bank_code
    }
    other = OPERATORS["bank-other"].operator.institution.bank_code
    assert other != OPERATORS["bank-own"].operator.institution.bank_code
    assert other in {bank.code for bank in REGIONS.get("990100").banks}


def test_clerk_and_supervisor_work_at_one_bureau() -> None:
    assert OPERATORS["bureau"].operator.institution == OPERATORS["bureau-supervisor"].operator.institution
    assert OPERATORS["bureau"].operator.username != OPERATORS["bureau-supervisor"].operator.username


def test_storage_gets_a_hash_where_the_persona_has_a_password() -> None:
    person = PEOPLE["sealed"]
    holder = holder_record(person, "the hash")
    assert (holder.holder_id, holder.id_number, holder.query_password) == (
        person.holder_id,
        person.id_number.number,
        "the hash",
    )


def _offered(key: str) -> dict[str, str | None]:
    """What the screen offers for a persona's first card: each action with its reason."""
    person, (record, *_) = PEOPLE[key], records_of(key)
    region, home = REGIONS.get(record.card.region_code), REGIONS.get(person.region_code)
    about = circumstances_of(holder_record(person, "hash"), region, home, NOW)
    return {
        offer.action: offer.reason for offer in offers(record.card, holder_actor(person.holder_id, "app"), region, about, NOW)
    }


def test_what_a_screen_offers_follows_from_the_part() -> None:
    activatable = {key for key in PEOPLE if _offered(key)["activate"] is None}
    closed = {"active", "guardian", "flexible-worker", "temporarily-lost", "formally-lost", "locked", "cancelled"}
    kept = {"not-delivered", "test-card", "not-interconnected", "minor", "unlinked-minor", "two-generations"}
    assert activatable >= {*PEOPLE} - closed - kept - {
        key for key in PEOPLE if records_of(key)[0].card.stored_status != "sealed"
    }
    assert not activatable & (closed | kept)
    assert _offered("minor")["activate"] == "guardianRequired"
    assert _offered("not-interconnected")["activate"] == "regionNotInterconnected"
    assert _offered("active") == {
        "activate": "alreadyActivated",
        "reportTemporaryLoss": None,
        "reportFormalLoss": None,
        "cancelLoss": "active",
        "replace": None,
        "changePin": None,
    }
    assert set(_offered("cancelled").values()) == {"cancelled"}
    assert set(_offered("test-card").values()) == {"testCard", "sealed"}


def test_a_pin_that_a_persona_chose_is_none_that_the_service_calls_weak() -> None:
    for key, person in PEOPLE.items():
        for record in records_of(key):
            region = REGIONS.get(record.card.region_code)
            kept = with_pin_hash(record, "the hash").card.pin
            if record.card.pin.state is PinState.SET:
                assert [*weaknesses(person.service_pin, region, person.id_number, None)] == []
                assert kept.hash == "the hash"
            else:
                assert kept == record.card.pin
    first = PEOPLE["sealed"]
    assert first.service_pin == initial_pin(REGIONS.get("990100"), first.id_number)


def test_regions_without_the_personas_regions_are_refused_by_name() -> None:
    others = Regions(MappingProxyType({code: r for code, r in REGIONS.by_code.items() if code != "990300"}))
    with pytest.raises(CastError, match="990300"):
        cast(others)


def test_a_bank_that_its_region_does_not_know_is_refused_by_name() -> None:
    region = REGIONS.get("990100")
    poorer = replace(region, banks=region.banks[1:])
    with pytest.raises(CastError, match="B901"):
        cast(Regions(MappingProxyType(dict(REGIONS.by_code) | {"990100": poorer})))


def test_numbers_are_printed_as_the_service_writes_them() -> None:
    for person in PEOPLE.values():
        for text in (person.id_number.number, person.mobile, *(card.number for card in person.cards)):
            assert normalise(text) == text
        assert person.id_number.birth_date > date(1960, 1, 1)
