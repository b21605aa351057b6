"""The sandbox on the wire: the only place where invented people's numbers and secrets are shown in plain."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.numbers import Recipient
from schemas.wire import Body, Instant, View
from service.locale import Locale
from service.operators import Institution
from service.sandbox.gateways import Sent
from service.sandbox.personas import Person, Persona, PersonaCard, Staff

_TEN_YEARS = 315_619_200


class PersonaCardView(View):
    """The three numbers printed on a card, with its id."""

    card_id: str
    card_number: str
    identification_code: str
    region_code: str


class PersonaDependantView(View):
    """Somebody this persona is guardian of: the persona's key, and the id to act for them with (`onBehalfOf`)."""

    dependant_id: str
    key: str


class InstitutionView(View):
    """Where an operator works. `bankCode` is null but for a bank."""

    id: str
    name: str
    kind: str
    region_codes: list[str]
    bank_code: str | None
    credit_code: str


class PersonaView(View):
    """Everything needed to play a part; null for what this part does not have. `servicePin` is that of the first card."""

    key: str
    kind: Literal["holder", "operator"]
    name: str
    id_number: str | None
    mobile: str | None
    email: str | None
    query_password: str | None
    service_pin: str | None
    region_code: str | None
    cards: list[PersonaCardView]
    dependants: list[PersonaDependantView]
    household_register: str | None
    role: str | None
    username: str | None
    password: str | None
    totp_secret: str | None
    institution: InstitutionView | None
    note: str


class PersonasView(View):
    """Everybody who lives in the sandbox."""

    items: list[PersonaView]


class MessageSearch(Body):
    """Whose messages to look at."""

    to: Recipient


class MessageView(View):
    """A message as it arrived. `code` is the one-time code in its text, if there is one."""

    channel: Literal["sms", "email"]
    to: str
    template: str
    text: str
    code: str | None
    sent_at: Instant


class MessagesView(View):
    """What was sent, newest first."""

    items: list[MessageView]


class ClockAdvance(Body):
    """How far to move the service's clock, in seconds; forward only, ten years in all."""

    advance_seconds: Annotated[int, Field(ge=0, le=_TEN_YEARS, examples=[300])]


class ClockView(View):
    """The service's time, and by how many seconds it is ahead."""

    now: Instant
    offset_seconds: int


class ResetView(View):
    """The sandbox as it was at first: how many personas there are, and the service's time."""

    now: Instant
    personas: int


class FaultRequest(Body):
    """Which gateway shall fail, how, and at how many of its next calls. Replaces what was asked for before.

    `rejected` and `uncertain` are for those who send or verify; `stale`, `wrong` and `away`, which is `unavailable`, for
    `upstream`, the city's own systems.
    """

    gateway: Literal["sms", "face", "email", "upstream"]
    fault: Literal["unavailable", "slow", "rejected", "uncertain", "stale", "wrong", "away"]
    times: Annotated[int, Field(ge=1, le=100)]


class FaultView(View):
    """The failures that will be played."""

    gateway: str
    fault: str
    times: int


class FaceView(View):
    """The provider's page, where the sandbox finds every face right."""

    status: Literal["passed"]
    message: str


def persona_view(persona: Persona, locale: Locale) -> PersonaView:
    return _person_view(persona, locale) if isinstance(persona, Person) else _staff_view(persona, locale)


def _person_view(person: Person, locale: Locale) -> PersonaView:
    return PersonaView(
        key=person.key,
        kind="holder",
        name=person.name,
        id_number=person.id_number.number,
        mobile=person.mobile,
        email=person.email,
        query_password=person.query_password,
        service_pin=person.service_pin,
        region_code=person.region_code,
        cards=[_card_view(card) for card in person.cards],
        dependants=[PersonaDependantView(dependant_id=d.dependant_id, key=d.key) for d in person.dependants],
        household_register=person.household_register,
        role=None,
        username=None,
        password=None,
        totp_secret=None,
        institution=None,
        note=person.note.read_in(locale),
    )


def _staff_view(staff: Staff, locale: Locale) -> PersonaView:
    operator = staff.operator
    return PersonaView(
        key=staff.key,
        kind="operator",
        name=operator.name,
        id_number=None,
        mobile=None,
        email=None,
        query_password=None,
        service_pin=None,
        region_code=None,
        cards=[],
        dependants=[],
        household_register=None,
        role=operator.role,
        username=operator.username,
        password=staff.password,
        totp_secret=staff.totp_secret,
        institution=_institution_view(operator.institution, locale),
        note=staff.note.read_in(locale),
    )


def _card_view(card: PersonaCard) -> PersonaCardView:
    return PersonaCardView(
        card_id=card.card_id,
        card_number=card.number,
        identification_code=card.identification_code,
        region_code=card.region_code,
    )


def _institution_view(institution: Institution, locale: Locale) -> InstitutionView:
    return InstitutionView(
        id=institution.institution_id,
        name=institution.names.read_in(locale),
        kind=institution.kind,
        region_codes=list(institution.region_codes),
        bank_code=institution.bank_code,
        credit_code=institution.credit_code,
    )


def message_view(sent: Sent) -> MessageView:
    return MessageView(
        channel=sent.channel,
        to=sent.to,
        template=sent.template,
        text=sent.text,
        code=sent.code,
        sent_at=sent.sent_at,
    )
