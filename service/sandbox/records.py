"""What the database holds about a persona when a reset has just put it there.

True here: a card's history leads to the status it has, its version counts that history, and every figure is a day or so old.
Never here: who a persona is (personas.py), or anything that is not derived from the persona, its region and one moment.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from random import Random
from typing import Final

from service.balances import Account, Figure
from service.cards import (
    Activation,
    Bank,
    BankStatus,
    Card,
    HistoryEntry,
    MedicalStatus,
    Pin,
    PinState,
    Stage,
    Status,
)
from service.clock import CHINA
from service.consents import Consent, Purpose, Turn, consent_id_of, wording_of
from service.contacts import Contacts
from service.dependants import Dependant, grown_up_on
from service.holders import Holder
from service.housing_funds import HousingFundStatus
from service.ids import ActivationId, derived_id
from service.insurance import Cover, Ending, Insurance, LeavingReason, Relation, codes_of
from service.reach import UNTOLD
from service.regions import Channel, Region, Regions
from service.registrations import registration_id_of
from service.sandbox.books import housing_balance, housing_status
from service.sandbox.personas import Person, PersonaCard, PersonaEmployment
from service.sandbox.roster import HIRED_DAYS_AGO, LEFT_DAYS_AGO, Condition, Employment

# No request of anybody's has this mark: marks are 32 bytes.
_NO_REQUEST: Final = b"persona"
_EXPIRES_ON: Final[Mapping[int, date]] = {1: date(2028, 3, 31), 2: date(2031, 12, 31), 3: date(2035, 8, 31)}


@dataclass(frozen=True, slots=True)
class CardRecord:
    """A card with all that is kept with it; `id_number` is that of the person it was made for."""

    card: Card
    id_number: str
    figures: tuple[Figure, ...]
    history: tuple[HistoryEntry, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """Something that happened to the card, so many days ago, and the status it led to."""

    days_ago: int
    happening: str
    after: Status
    channel: Channel
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Life:
    """What a condition means on each axis, and how the card came to it from sealed."""

    steps: tuple[_Step, ...] = ()
    stage: Stage = Stage.DELIVERED
    test_batch: bool = False
    bank: BankStatus = BankStatus.ACTIVE
    medical: MedicalStatus = MedicalStatus.NORMAL

    @property
    def status(self) -> Status:
        return self.steps[-1].after if self.steps else Status.SEALED


def _activated(days_ago: int, channel: Channel) -> _Step:
    return _Step(days_ago, "activated", Status.ACTIVE, channel)


_LIVES: Final[Mapping[Condition, _Life]] = {
    "sealed": _Life(bank=BankStatus.PENDING),
    "active": _Life((_activated(412, "bank"),)),
    "temporarilyLost": _Life((_activated(655, "bank"), _Step(0, "temporaryLossReported", Status.TEMPORARILY_LOST, "hotline"))),
    "formallyLost": _Life(
        (
            _activated(780, "hospital"),
            _Step(6, "temporaryLossReported", Status.TEMPORARILY_LOST, "app"),
            _Step(4, "formalLossReported", Status.FORMALLY_LOST, "bureau"),
        )
    ),
    "locked": _Life((_activated(530, "bureau"), _Step(9, "locked", Status.LOCKED, "bureau", "holderRequest"))),
    "cancelled": _Life(
        (_activated(1290, "bank"), _Step(45, "cancelled", Status.CANCELLED, "bureau", "emigration")),
        bank=BankStatus.CLOSED,
        medical=MedicalStatus.CLOSED,
    ),
    # Its region has retired the generation since; whose insurance has ended gets no new one.
    "paidOut": _Life(
        (_activated(1710, "bank"), _Step(40, "medicalPaidOut", Status.ACTIVE, "bureau", "emigration")),
        medical=MedicalStatus.CLOSED,
    ),
    "notDelivered": _Life(stage=Stage.RECEIVED_BY_CITY, bank=BankStatus.PENDING),
    # A batch under test is made and kept: it can be neither delivered nor activated.
    "testCard": _Life(stage=Stage.RECEIVED_BY_BANK, test_batch=True, bank=BankStatus.PENDING),
}

# Why an employment ended.
_LEFT: Final[Mapping[Employment, LeavingReason]] = {"left": "employmentEnded", "emigrated": "emigration"}

# When they agreed to what they agree to.
_AGREED_DAYS_AGO: Final = 30

# Least and most fen of an invented balance, the hours since it was reported, and by which system.
_ACCOUNTS: Final = (
    (Account.MEDICAL, 30_000, 900_000, 20, "medicalInsuranceBureau"),
    (Account.PENSION, 2_000_000, 18_000_000, 26, "pensionInsuranceBureau"),
    (Account.HOUSING_FUND, 500_000, 15_000_000, 31, "housingFundCentre"),
)


def holder_record(person: Person, query_password_hash: str) -> Holder:
    """The person as storage takes them."""
    return Holder(
        person.holder_id,
        person.name,
        person.id_number.number,
        person.mobile,
        person.region_code,
        query_password_hash,
        person.household_register,
    )


def dependant_records(everybody: Iterable[Person], regions: Regions) -> list[Dependant]:
    """The links between guardians and dependants, each until the guardian age of the dependant's region."""
    by_key = {person.key: person for person in everybody}
    seats: Counter[str] = Counter()
    links: list[Dependant] = []
    for guardian in by_key.values():
        for link in guardian.dependants:
            dependant = by_key[link.key]
            links.append(
                Dependant(
                    dependant_id=link.dependant_id,
                    guardian_id=guardian.holder_id,
                    holder_id=dependant.holder_id,
                    relationship="child",
                    until=_grown_up(dependant, regions),
                    seat=seats[link.key],
                    version=1,
                    linked_by=_NO_REQUEST,
                    ended_at=None,
                    ended_by=None,
                )
            )
            seats[link.key] += 1
    return links


def relation_records(everybody: Iterable[Person], now: datetime) -> list[Relation]:
    """Who is registered for social insurance by an employer, in all five, since some years; and how it ended for some."""
    return [_relation(person, person.employment, now) for person in everybody if person.employment is not None]


def _relation(person: Person, employment: PersonaEmployment, now: datetime) -> Relation:
    hired_on = now.astimezone(CHINA).date() - timedelta(days=HIRED_DAYS_AGO)
    reason = _LEFT.get(employment.state)
    left_at = now - timedelta(days=LEFT_DAYS_AGO)
    return Relation(
        registration_id=registration_id_of(person.holder_id, employment.employer_id, 1),
        holder_id=person.holder_id,
        employer_id=employment.employer_id,
        number=1,
        region_code=employment.region_code,
        covers=tuple(Cover(code, hired_on) for code in codes_of(frozenset(Insurance))),
        since=hired_on,
        registered_at=now - timedelta(days=HIRED_DAYS_AGO - 12),
        overdue_days=0,
        by=employment.employer_id,
        request=_NO_REQUEST,
        ending=Ending(left_at.astimezone(CHINA).date(), left_at, employment.employer_id, reason) if reason else None,
        version=2 if reason else 1,
    )


def consent_records(everybody: Iterable[Person], now: datetime) -> list[Consent]:
    """Who has agreed that counters look them up for an enquiry; an e-card for a dependant is the guardian's to agree to."""
    at = now - timedelta(days=_AGREED_DAYS_AGO)
    purpose = Purpose.COUNTER_LOOK_UP
    turn = Turn("given", at, "app", wording_of(purpose, now), _NO_REQUEST)
    return [
        Consent(consent_id_of(person.holder_id, purpose), person.holder_id, purpose, (turn,))
        for person in everybody
        if person.agrees
    ]


def contact_records(everybody: Iterable[Person], now: datetime) -> list[Contacts]:
    """Who has confirmed an email address."""
    at = now - timedelta(days=_AGREED_DAYS_AGO)
    return [
        Contacts(person.holder_id, replace(UNTOLD, email=person.email), at, None, 1, (_NO_REQUEST,))
        for person in everybody
        if person.email is not None
    ]


def _grown_up(person: Person, regions: Regions) -> date:
    return grown_up_on(person.id_number.birth_date, regions.get(person.region_code).policy.guardian_age)


def card_records(person: Person, regions: Regions, now: datetime) -> list[CardRecord]:
    """A person's cards as they are at a moment of reset."""
    grown_up = _grown_up(person, regions) <= now.astimezone(CHINA).date()
    return [
        CardRecord(
            card=_card(person, card, regions.get(card.region_code), now),
            id_number=person.id_number.number,
            figures=_figures(person, card, now, grown_up=grown_up),
            history=_history(card, now),
        )
        for card in person.cards
    ]


def with_pin_hash(record: CardRecord, pin_hash: str) -> CardRecord:
    """The record with what storage keeps of a PIN that the person chose; one that nobody chose has nothing to keep."""
    pin = record.card.pin
    if pin.state is not PinState.SET:
        return record
    return replace(record, card=replace(record.card, pin=replace(pin, hash=pin_hash)))


def _card(person: Person, printed: PersonaCard, region: Region, now: datetime) -> Card:
    life = _LIVES[printed.condition]
    lost = life.status is Status.TEMPORARILY_LOST
    return Card(
        card_id=printed.card_id,
        holder_id=person.holder_id,
        region_code=printed.region_code,
        number=printed.number,
        identification_code=printed.identification_code,
        holder_name=person.name,
        generation=printed.generation,
        bank=Bank(printed.bank_code, printed.bank_account, life.bank),
        stage=life.stage,
        test_batch=life.test_batch,
        stored_status=life.status,
        temporary_loss_until=now + timedelta(days=region.policy.temporary_loss_days) if lost else None,
        activation=_activation(person, printed, life, now),
        stored_medical=life.medical,
        pin=Pin(PinState.SET if life.steps else PinState.INITIAL, 0),
        expires_on=_EXPIRES_ON[printed.generation],
        version=len(life.steps),
        lock_reason="holderRequest" if life.status is Status.LOCKED else None,
    )


def _activation(person: Person, printed: PersonaCard, life: _Life, now: datetime) -> Activation | None:
    if not life.steps:
        return None
    step = life.steps[0]
    return Activation(
        # As an activation of ours names itself: by the card and the version it found.
        activation_id=ActivationId(derived_id("act", printed.card_id, "0")),
        at=now - timedelta(days=step.days_ago),
        channel=step.channel,
        by=person.holder_id,
        request=_NO_REQUEST,
    )


def _history(printed: PersonaCard, now: datetime) -> tuple[HistoryEntry, ...]:
    entries: list[HistoryEntry] = []
    before = Status.SEALED
    for step in _LIVES[printed.condition].steps:
        at = now - timedelta(days=step.days_ago)
        entries.append(HistoryEntry(at, step.happening, before, step.after, step.channel, step.reason))
        before = step.after
    return tuple(entries)


def _figures(person: Person, printed: PersonaCard, now: datetime, *, grown_up: bool) -> tuple[Figure, ...]:
    closed = _LIVES[printed.condition].medical is MedicalStatus.CLOSED
    figures: list[Figure] = []
    for account, least, most, hours, source in _ACCOUNTS:
        # The same amount for both cards of a person, and after every reset; no secret.
        fen = Random(f"{person.key}\0{account}").randint(least, most)  # noqa: S311  invented people must be the same every time
        status: MedicalStatus | HousingFundStatus = MedicalStatus.NORMAL
        if closed and account is Account.MEDICAL:
            fen, status = 0, MedicalStatus.CLOSED
        elif not grown_up and account is not Account.MEDICAL:
            fen, status = 0, MedicalStatus.UNOPENED
        elif account is Account.HOUSING_FUND:
            fen, status = housing_balance(person, fen), housing_status(person)
        figures.append(Figure(account, fen, str(status), now - timedelta(hours=hours), source))
    return tuple(figures)
