"""Cards and balances on the wire: masked, with every axis of the card on its own."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

import orjson
from pydantic import Field

from schemas.wire import Body, Day, EmptyBody, Instant, OnBehalfOf, PageQuery, View
from service.balances import Account, Balance, Figure, WriteFigures
from service.cards import BankStatus, Card, HistoryEntry, MedicalStatus, PinState, Stage, Status
from service.changes import LossKind
from service.clock import Clock, show
from service.ids import CardId
from service.locale import Locale
from service.masking import display_fen, mask_bank_number, mask_card_number, mask_name
from service.pins import PATTERN
from service.regions import Channel, Region, Regions
from service.transitions import Action, Offer

PinText = Annotated[str, Field(pattern=PATTERN)]


class CardsQuery(PageQuery):
    """Which page of whose cards."""

    on_behalf_of: OnBehalfOf = None


class LossReport(Body):
    """Lost for a while, which ends by itself and can be cancelled, or for good."""

    kind: LossKind
    on_behalf_of: OnBehalfOf = None


class LossCancel(EmptyBody):
    """It was found again."""

    on_behalf_of: OnBehalfOf = None


class PinChange(Body):
    """The PIN that opens the card now, and the one that shall."""

    current_pin: Annotated[PinText, Field(repr=False)]
    new_pin: Annotated[PinText, Field(repr=False)]


class BankView(View):
    """The bank on the face of the card."""

    code: str
    name: str
    account_masked: str | None


class SocialFunctionView(View):
    """Social function: whether, when and where it was activated."""

    active: bool
    activated_at: Instant | None
    channel: Channel | None


class BankFunctionView(View):
    """Bank function: the state of the account on the card."""

    status: BankStatus


class FunctionsView(View):
    """The two functions of a card."""

    social: SocialFunctionView
    bank: BankFunctionView


class ServicePinView(View):
    """Service PIN as far as it may be seen."""

    state: PinState
    tries_left: int


class ActionView(View):
    """What may be done with the card now, or the reason why not."""

    action: Action
    allowed: bool
    reason: str | None


class CardView(View):
    """One card of the holder."""

    card_id: str
    region_code: str
    region_name: str
    holder_name_masked: str
    card_number_masked: str
    generation: int
    bank: BankView
    production_stage: Stage
    status: Status
    functions: FunctionsView
    medical_account: MedicalStatus
    service_pin: ServicePinView
    expires_on: Day
    version: int
    actions: list[ActionView]


class CardPage(View):
    """The holder's cards."""

    items: list[CardView]
    next_cursor: str | None
    has_more: bool


class FigureView(View):
    """One account: whole fen, and the same as people read it. `stale`: it is older than the region calls fresh."""

    account: Account
    balance_fen: int
    display: str
    currency: Literal["CNY"]
    status: str
    as_of: Instant
    source: str
    stale: bool


class BalanceView(View):
    """All figures of a card; `asOf` is the oldest of theirs."""

    card_id: str
    as_of: Instant
    items: list[FigureView]


class HistoryEntryView(View):
    """One transition of the card."""

    at: Instant
    event: str
    before: Annotated[Status, Field(serialization_alias="from")]
    after: Annotated[Status, Field(serialization_alias="to")]
    channel: Channel
    reason: str | None


class HistoryPage(View):
    """What happened to the card, newest first."""

    items: list[HistoryEntryView]
    next_cursor: str | None
    has_more: bool


def card_view(  # noqa: PLR0913  a card, what is known beside it, and for whom it is shown
    card: Card, region: Region, offered: Iterable[Offer], locale: Locale, now: datetime, *, medical: MedicalStatus
) -> CardView:
    bank = next((bank for bank in region.banks if bank.code == card.bank.code), None)
    done = card.activation
    max_tries = region.policy.service_pin.max_tries
    return CardView(
        card_id=card.card_id,
        region_code=card.region_code,
        region_name=region.name(locale),
        holder_name_masked=mask_name(card.holder_name),
        card_number_masked=mask_card_number(card.number),
        generation=card.generation,
        bank=BankView(
            code=card.bank.code,
            name=bank.name(locale) if bank else card.bank.code,
            account_masked=mask_bank_number(card.bank.account) if card.bank.account else None,
        ),
        production_stage=card.stage,
        status=card.status(now),
        functions=FunctionsView(
            social=SocialFunctionView(
                active=card.status(now) == "active",
                activated_at=done.at if done else None,
                channel=done.channel if done else None,
            ),
            bank=BankFunctionView(status=card.bank.status),
        ),
        medical_account=medical,
        service_pin=ServicePinView(state=card.pin.state_under(max_tries), tries_left=card.pin.tries_left(max_tries)),
        expires_on=card.expires_on,
        version=card.version,
        actions=[ActionView(action=offer.action, allowed=offer.reason is None, reason=offer.reason) for offer in offered],
    )


def balance_view(balance: Balance, medical: MedicalStatus, now: datetime, old_before: datetime) -> BalanceView:
    return BalanceView(
        card_id=balance.card_id,
        as_of=balance.oldest or now,
        items=[
            FigureView(
                account=figure.account,
                balance_fen=figure.balance_fen,
                display=display_fen(figure.balance_fen),
                currency="CNY",
                status=medical if figure.account == "medical" else figure.status,
                as_of=figure.as_of,
                source=figure.source,
                stale=figure.as_of < old_before,
            )
            for figure in balance.figures
        ],
    )


def balance_json(balance: Balance, medical: MedicalStatus, now: datetime, old_before: datetime) -> bytes:
    """`balance_view` as it goes out. Half of all requests ask for this one, so it is written straight to bytes."""
    if balance.written and medical is balance.stored_medical:
        return balance.written
    return _figures_json(balance.card_id, balance.figures, balance.oldest or now, medical, old_before)


def figures_writer(regions: Regions, clock: Clock) -> WriteFigures:
    """Writes figures by themselves, as old as they are by the policy of the card's region when they are read."""

    def write(
        card_id: CardId, region_code: str, figures: tuple[Figure, ...], oldest: datetime, medical: MedicalStatus
    ) -> bytes:
        old_before = clock.now() - regions.get(region_code).policy.figures_old_after
        return _figures_json(card_id, figures, oldest, medical, old_before)

    return write


def _figures_json(
    card_id: CardId, figures: tuple[Figure, ...], oldest: datetime, medical: MedicalStatus, old_before: datetime
) -> bytes:
    some_old = oldest < old_before
    return orjson.dumps(
        {
            "cardId": card_id,
            "asOf": show(oldest),
            "items": [
                {
                    "account": figure.account,
                    "balanceFen": figure.balance_fen,
                    "display": display_fen(figure.balance_fen),
                    "currency": "CNY",
                    "status": medical if figure.account is Account.MEDICAL else figure.status,
                    "asOf": show(figure.as_of),
                    "source": figure.source,
                    "stale": some_old and figure.as_of < old_before,
                }
                for figure in figures
            ],
        }
    )


def history_entry_view(entry: HistoryEntry) -> HistoryEntryView:
    return HistoryEntryView(
        at=entry.at,
        event=entry.happening,
        before=entry.before,
        after=entry.after,
        channel=entry.channel,
        reason=entry.reason,
    )
