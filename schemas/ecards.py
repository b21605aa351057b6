"""The e-card on the wire: applying, its state, its codes, and what a counter is shown."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from schemas.cards import PinText
from schemas.wire import Body, EmptyBody, Instant, OnBehalfOf, View
from service.ecard_codes import LENGTH, LIFE_SECONDS, Issued, Redeemed
from service.ecards import EcardLevel, EcardStatus, Held, PasswordState, Wanted
from service.locale import Locale, text
from service.masking import mask_card_number, mask_name
from service.numbers import normalise


def _number(value: Any) -> Any:  # noqa: ANN401  it comes from the wire and may be anything
    # Forms send every field as text. True is no number on the wire.
    if isinstance(value, bool):
        return None
    return int(value) if isinstance(value, str) and value in {"1", "2"} else value


_Level = Annotated[
    EcardLevel,
    BeforeValidator(_number),
    WithJsonSchema({"enum": [1, 2, "1", "2"], "examples": [2], "description": "1: a credential; 2: it also pays."}),
]
_Password = Annotated[PinText | None, Field(repr=False, description="Six digits, of the e-card alone; never the service PIN.")]
_CodeText = Annotated[
    str,
    Field(min_length=1, max_length=256, repr=False, description=f"As scanned: {LENGTH} letters and digits."),
    AfterValidator(normalise),
]


class EcardQuery(Body):
    """Whose e-card."""

    on_behalf_of: OnBehalfOf = None


class EcardApplication(EmptyBody):
    """Which level, on which card. The card may be left out where only one is fit, the password where it does not pay."""

    level: _Level = 1
    card_id: Annotated[str | None, Field(max_length=64)] = None
    password: _Password = None
    on_behalf_of: OnBehalfOf = None

    def wanted(self) -> Wanted:
        return Wanted(self.level, self.card_id, self.password)


class EcardCodeRequest(EmptyBody):
    """Without a password a code is a credential; with the right one, on an e-card of level 2, it pays."""

    password: _Password = None
    on_behalf_of: OnBehalfOf = None


class EcardCodeText(Body):
    """A code."""

    code: _CodeText


class EcardPaymentView(View):
    """Whether the e-card pays now, or why not."""

    usable: bool
    reason: str | None


class EcardPasswordView(View):
    """The password of the e-card as far as it may be seen."""

    state: PasswordState
    tries_left: int


class EcardView(View):
    """An e-card. `status` and `reason` are what its card says at this moment; `message` is the reason in words."""

    ecard_id: str
    card_id: str
    card_number_masked: str
    holder_name_masked: str
    region_code: str
    level: EcardLevel
    status: EcardStatus
    reason: str | None
    message: str | None
    payment: EcardPaymentView
    password: EcardPasswordView
    applied_at: Instant
    changed_at: Instant


class EcardCodeView(View):
    """A code to show: opaque, redeemed once, and no longer good when a newer one is there. `level` is what it is good for."""

    code: str
    expires_at: Instant
    ttl_seconds: Annotated[int, Field(examples=[LIFE_SECONDS])]
    level: EcardLevel


class RedeemedEcardView(View):
    """Whom a counter has before it, and what their code was good for."""

    redemption_id: str
    level: EcardLevel
    name_masked: str
    card_id: str
    card_number_masked: str
    region_code: str
    redeemed_at: Instant


def ecard_view(held: Held, locale: Locale) -> EcardView:
    ecard, card, standing = held.ecard, held.card, held.standing
    return EcardView(
        ecard_id=ecard.ecard_id,
        card_id=ecard.card_id,
        card_number_masked=mask_card_number(card.number),
        holder_name_masked=mask_name(card.holder_name),
        region_code=card.region_code,
        level=ecard.level,
        status=standing.status,
        reason=standing.reason,
        message=text(locale, f"reasons.{standing.reason}") if standing.reason is not None else None,
        payment=EcardPaymentView(usable=standing.payment_reason is None, reason=standing.payment_reason),
        password=EcardPasswordView(state=ecard.password_state, tries_left=ecard.tries_left),
        applied_at=ecard.applied_at,
        changed_at=ecard.changed_at,
    )


def ecard_code_view(issued: Issued) -> EcardCodeView:
    return EcardCodeView(
        code=issued.code,
        expires_at=issued.expires_at,
        ttl_seconds=LIFE_SECONDS,
        level=issued.level,
    )


def redeemed_ecard_view(redeemed: Redeemed) -> RedeemedEcardView:
    card = redeemed.held.card
    return RedeemedEcardView(
        redemption_id=redeemed.redemption.redemption_id,
        level=redeemed.level,
        name_masked=mask_name(card.holder_name),
        card_id=card.card_id,
        card_number_masked=mask_card_number(card.number),
        region_code=card.region_code,
        redeemed_at=redeemed.redemption.at,
    )
