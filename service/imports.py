"""Cards and people that a city's own system hands over: what a row must say to become a card here.

True here: a row is one card with its holder; every fault of a row is named by field and reason, all at once; the same row
leads to the same ids wherever and whenever it is read. Never here: a value in a fault; a mend, for what is not clear is
refused and left to the people who keep the city's books; one region derived from another.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, NamedTuple

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
from service.holders import Holder
from service.ids import ActivationId, CardId, HolderId, derived_id, placed_id
from service.numbers import (
    InvalidNumber,
    ResidentId,
    parse_bank_number,
    parse_card_number,
)
from service.regions import Channel, Region, Regions
from service.vault import Vault

# No request of anybody's has this mark: marks are 32 bytes.
_NO_REQUEST: Final = b"import"
# What a card can only be after somebody activated it. A cancelled card may have been cancelled before.
_AFTER_ACTIVATION: Final = frozenset({Status.ACTIVE, Status.TEMPORARILY_LOST, Status.FORMALLY_LOST, Status.LOCKED})
_OPEN_ACCOUNT: Final = frozenset({BankStatus.ACTIVE, BankStatus.DORMANT})
_PARTS: Final = ("BalanceFen", "AsOf", "Source")
# Numbers' own words for what is wrong, as a rejected row says them.
_NUMBER_FAULTS: Final = {"format": "format", "check_character": "checkCharacter", "birth_date": "birthDate"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is not taken: the field, "" for the whole row, and the reason. Never what stood there."""

    field: str
    reason: str


class Rejected(Exception):  # noqa: N818  it is an answer about a row
    """A row cannot be taken; `faults` says why, at least once."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        super().__init__("rejected")
        self.faults: Final = tuple(faults)


# What is made of every row is a named tuple: it takes a third of the time of a frozen dataclass.
class ImportedFigure(NamedTuple):
    """One account's balance as a row gives it: fen, as-of time and source, each perhaps missing."""

    account: Account
    balance_fen: int | None
    as_of: datetime | None
    source: str | None


class Row(NamedTuple):
    """One row, its fields well-formed by themselves; whether they go together is for RowRules to say."""

    holder_name: str
    id_number: ResidentId
    mobile: str
    insurance_region_code: str
    region_code: str
    card_number: str
    identification_code: str
    generation: int
    bank_code: str
    bank_account: str | None
    bank_status: BankStatus
    stage: Stage
    test_batch: bool
    status: Status
    temporary_loss_until: datetime | None
    activated_at: datetime | None
    activation_channel: Channel | None
    medical: MedicalStatus
    pin: PinState
    expires_on: date
    household_register: str | None
    figures: tuple[ImportedFigure, ...]


class Entry(NamedTuple):
    """What a row becomes."""

    holder: Holder
    card: Card
    figures: tuple[Figure, ...]
    history: tuple[HistoryEntry, ...]


def holder_id_of(vault: Vault, region_code: str, id_number: str) -> HolderId:
    """The id of somebody who comes to be known here, insured in a region."""
    return HolderId(_placed(vault, "hld", region_code, id_number))


def card_id_of(vault: Vault, region_code: str, card_number: str) -> CardId:
    """The id of a card that comes to be known here, as its region numbered it."""
    return CardId(_placed(vault, "card", region_code, card_number))


def _placed(vault: Vault, prefix: str, region_code: str, number: str) -> str:
    """Card numbers repeat between regions, people's do not between anything; the region is in both ids anyway."""
    return placed_id(prefix, region_code, vault.mac("placed-id", prefix, region_code, number))


class RowRules:
    """From a row to a card and its holder, under the policies of the regions that are served."""

    def __init__(self, regions: Regions, vault: Vault, number_fault: Callable[[str], str | None]) -> None:
        """`number_fault`: why an ID number has no place in this environment, such as an invented one in production."""
        self._regions = regions
        self._vault = vault
        self._number_fault = number_fault

    def entry(self, row: Row, now: datetime) -> Entry:
        """The card and its holder. Raises Rejected with every fault."""
        faults = list(self._faults(row, now))
        if faults:
            raise Rejected(faults)
        holder_id = holder_id_of(self._vault, row.insurance_region_code, row.id_number.number)
        card_id = card_id_of(self._vault, row.region_code, row.card_number)
        done = _activation(row, card_id, holder_id)
        history = (
            (HistoryEntry(done.at, "activated", Status.SEALED, Status.ACTIVE, done.channel, None),) if done is not None else ()
        )
        card = Card(
            card_id=card_id,
            holder_id=holder_id,
            region_code=row.region_code,
            number=row.card_number,
            identification_code=row.identification_code,
            holder_name=row.holder_name,
            generation=row.generation,
            bank=Bank(row.bank_code, row.bank_account, row.bank_status),
            stage=row.stage,
            test_batch=row.test_batch,
            stored_status=row.status,
            temporary_loss_until=row.temporary_loss_until,
            activation=done,
            stored_medical=row.medical,
            pin=Pin(row.pin, 0),
            expires_on=row.expires_on,
            version=len(history),
        )
        holder = Holder(
            holder_id=holder_id,
            name=row.holder_name,
            id_number=row.id_number.number,
            mobile=row.mobile,
            region_code=row.insurance_region_code,
            query_password=None,
            household_register=row.household_register,
        )
        return Entry(holder, card, tuple(_figures(row)), history)

    def _faults(self, row: Row, now: datetime) -> Iterator[Fault]:
        if reason := self._number_fault(row.id_number.number):
            yield Fault("idNumber", reason)
        if row.insurance_region_code not in self._regions.by_code:
            yield Fault("insuranceRegionCode", "regionNotServed")
        region = self._regions.by_code.get(row.region_code)
        if region is None:
            yield Fault("regionCode", "regionNotServed")
        else:
            yield from _faults_in(region, row)
        if not row.identification_code.startswith(row.region_code):
            yield Fault("identificationCode", "regionMismatch")
        yield from _bank_faults(row)
        yield from _state_faults(row, now)
        yield from _figure_faults(row.figures, now)


def _faults_in(region: Region, row: Row) -> Iterator[Fault]:
    try:
        parse_card_number(row.card_number, region.policy.card_number)
    except InvalidNumber as fault:
        yield Fault("cardNumber", _NUMBER_FAULTS[fault.code])
    if all(bank.code != row.bank_code for bank in region.banks):
        yield Fault("bankCode", "bankNotOfRegion")
    if all(known.number != row.generation for known in region.policy.generations):
        yield Fault("generation", "notOfRegion")


def _bank_faults(row: Row) -> Iterator[Fault]:
    if row.bank_account is None:
        if row.bank_status in _OPEN_ACCOUNT:
            yield Fault("bankAccount", "missing")
        return
    if row.bank_status is BankStatus.NONE:
        yield Fault("bankAccount", "notAllowed")
    try:
        parse_bank_number(row.bank_account)
    except InvalidNumber as fault:
        yield Fault("bankAccount", _NUMBER_FAULTS[fault.code])


def _state_faults(row: Row, now: datetime) -> Iterator[Fault]:
    """A test batch is neither delivered nor activated (Measures, art. 12); what is no longer sealed was activated."""
    if row.test_batch and row.stage is Stage.DELIVERED:
        yield Fault("productionStage", "testCard")
    if row.test_batch and row.status not in {Status.SEALED, Status.CANCELLED}:
        yield Fault("status", "testCard")
    if row.stage is not Stage.DELIVERED and row.status in _AFTER_ACTIVATION:
        yield Fault("status", "notDelivered")
    if (row.temporary_loss_until is not None) != (row.status is Status.TEMPORARILY_LOST):
        yield Fault("temporaryLossUntil", "notAllowed" if row.temporary_loss_until else "missing")
    for field, value in (("activatedAt", row.activated_at), ("activationChannel", row.activation_channel)):
        if value is None and row.status in _AFTER_ACTIVATION:
            yield Fault(field, "missing")
        if value is not None and row.status is Status.SEALED:
            yield Fault(field, "notAllowed")
    if row.status is Status.CANCELLED and (row.activated_at is None) != (row.activation_channel is None):
        yield Fault("activatedAt" if row.activated_at is None else "activationChannel", "missing")
    if row.activated_at is not None and row.activated_at > now:
        yield Fault("activatedAt", "inFuture")


def _figure_faults(figures: Iterable[ImportedFigure], now: datetime) -> Iterator[Fault]:
    for account, balance_fen, as_of, source in figures:
        parts = (balance_fen, as_of, source)
        if None in parts and parts != (None, None, None):
            yield from (Fault(f"{account}{_PARTS[place]}", "missing") for place, part in enumerate(parts) if part is None)
        if as_of is not None and as_of > now:
            yield Fault(f"{account}AsOf", "inFuture")


def _activation(row: Row, card_id: CardId, holder_id: HolderId) -> Activation | None:
    if row.activated_at is None or row.activation_channel is None:
        return None
    return Activation(
        # As an activation of ours names itself: by the card and the version it found.
        activation_id=ActivationId(derived_id("act", card_id, "0")),
        at=row.activated_at,
        channel=row.activation_channel,
        by=holder_id,
        request=_NO_REQUEST,
    )


def _figures(row: Row) -> Iterator[Figure]:
    """The figures that a row has. The medical account has a status of its own; for the others only a balance is known."""
    for figure in row.figures:
        if figure.balance_fen is not None and figure.as_of is not None and figure.source is not None:
            status = row.medical if figure.account is Account.MEDICAL else MedicalStatus.NORMAL
            yield Figure(figure.account, figure.balance_fen, status.value, figure.as_of, figure.source)
