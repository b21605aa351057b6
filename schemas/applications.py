"""Applications on the wire: asking for a card, how far it is, and what operators say about it.

True here: the form of a request is judged as a whole; what stands in a row is judged with that row, and the others are none the
worse for it. Never here: a value of a row in its answer, or a name or a number of the person an application is for.
"""

from datetime import date
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from schemas.numbers import BankNumberText, CardNumberText, IdentificationCode, Name
from schemas.staff_cards import Materials
from schemas.wire import Body, Instant, PageQuery, View
from service.applications import (
    Application,
    ApplicationKind,
    ApplicationStage,
    Collector,
    RejectionReason,
    ReplacementReason,
    place_to_fetch,
)
from service.bulk_applications import MOST_ROWS, BulkRow, RowAnswer, Unreadable
from service.errors import Refusal
from service.locale import Locale, catalogue, text
from service.newcomers import Named
from service.numbers import InvalidNumber, parse_mobile, parse_resident_id
from service.production import Collection, Move, Numbers
from service.regions import Region
from service.staff_cards import Shown

_NAME: Final = TypeAdapter[str](Name)
_LONGEST: Final = 128
_Text = Annotated[str, Field(max_length=_LONGEST)]
BankCode = Annotated[str, Field(pattern=r"^[A-Z0-9]{2,20}$", examples=["B901"])]
RegionCodeText = Annotated[str, Field(pattern=r"^[0-9]{6}$", examples=["990100"])]
Confirmed = Annotated[
    Literal[True], Field(description="Name and ID number, or the photo, were looked at and are right; nothing goes on before.")
]


class FirstCardApplication(Body):
    """What card: of which of the region's banks. In the region where one is insured unless another is named."""

    region_code: RegionCodeText | None = None
    bank: BankCode
    information_confirmed: Confirmed
    photo_confirmed: Confirmed


class Replacement(Body):
    """Why a new card is needed in the place of this one."""

    reason: ReplacementReason


class StaffReplacement(Replacement):
    """The same at a counter, with what the person there has shown."""

    materials: Materials = ()

    def shown(self) -> Shown:
        return Shown(self.materials)


class ApplicationRow(Body):
    """Somebody to apply for. What cannot be read as a name, a number or a mobile is the row's own refusal."""

    name: Annotated[_Text, Field(examples=["张伟"])]
    id_number: Annotated[_Text, Field(examples=["11010519491231002X"])]
    mobile: Annotated[_Text, Field(examples=["13800138000"])]
    bank: BankCode
    photo_confirmed: bool

    def content(self, today: date) -> BulkRow | Unreadable:
        """What the row says, or the first thing in it that is no such thing."""
        try:
            name = _NAME.validate_python(self.name, strict=True)
        except ValidationError:
            return Unreadable("name", "name_format")
        try:
            id_number = parse_resident_id(self.id_number, today=today)
        except InvalidNumber as fault:
            return Unreadable("idNumber", f"resident_id_{fault.code}")
        try:
            mobile = parse_mobile(self.mobile)
        except InvalidNumber as fault:
            return Unreadable("mobile", f"mobile_{fault.code}")
        if not self.photo_confirmed:
            return Unreadable("photoConfirmed", "not_confirmed")
        return BulkRow(Named(name, id_number, mobile), self.bank)


class BulkApplication(Body):
    """Whom to apply for. `regionCode`: one of the institution's; it may be left out where there is but one.

    Whoever sends a row has confirmed name and ID number, and says so of the photo.
    """

    region_code: RegionCodeText | None = None
    rows: Annotated[list[ApplicationRow], Field(min_length=1, max_length=MOST_ROWS)]


class NextStage(Body):
    """A stage for which nothing more has to be said."""

    stage: Literal["bankPreOpened", "shippedByProvince", "receivedByCity", "receivedByBank"]

    def move(self) -> Move:
        return Move(ApplicationStage(self.stage))


class ProductionStart(Body):
    """The card comes into being, with the numbers that its producer gives it by the region's format."""

    stage: Literal["inProduction"]
    card_number: CardNumberText
    identification_code: IdentificationCode
    bank_account: BankNumberText

    def move(self) -> Move:
        return Move(
            ApplicationStage.IN_PRODUCTION,
            numbers=Numbers(self.card_number, self.identification_code, self.bank_account),
        )


class FaceChecks(Body):
    """What is right on the face of the card."""

    name: bool
    id_number: bool
    photo: bool
    bank: bool

    def all_right(self) -> bool:
        return self.name and self.id_number and self.photo and self.bank


class Delivery(Body):
    """Somebody fetches the card, and looks at its face. With anything wrong the application ends and the card is nobody's."""

    stage: Literal["delivered"]
    collected_by: Collector
    checks: FaceChecks

    def move(self) -> Move:
        return Move(ApplicationStage.DELIVERED, collection=Collection(self.collected_by, self.checks.all_right()))


class Rejection(Body):
    """The application ends without a card."""

    stage: Literal["rejected"]
    reason: Literal["informationWrong", "photoUnusable", "cardFaulty", "withdrawn"]

    def move(self) -> Move:
        return Move(ApplicationStage.REJECTED, rejection=self.reason)


Advance = Annotated[NextStage | ProductionStart | Delivery | Rejection, Field(discriminator="stage")]


class ApplicationsQuery(PageQuery):
    """Which page of which applications; of all when no stage is named."""

    stage: Annotated[ApplicationStage | None, Field(strict=False)] = None


class StageView(View):
    """A stage that was reached, and when."""

    stage: ApplicationStage
    at: Instant


class ApplicationView(View):
    """How far a card is. `stages`: in order of time, the last is `stage`.

    `cardId`: the card it is about: the one to be replaced, or the first one once it is made; `newCardId`: the card that is made
    for it, null before. `reason`: why a replacement; `rejection`: why it ended without a card; `collectAt`: where it can be
    fetched, null while it is not there.
    """

    application_id: str
    kind: ApplicationKind
    card_id: str | None
    new_card_id: str | None
    stage: ApplicationStage
    stages: list[StageView]
    reason: ReplacementReason | None
    rejection: RejectionReason | None
    collect_at: str | None


class ApplicationPage(View):
    """My applications, newest first."""

    items: list[ApplicationView]
    next_cursor: str | None
    has_more: bool


class StaffApplicationView(ApplicationView):
    """The same for operators. `next`: the one stage that may come next; `batchId`: the batch in which its card is made.

    `underTest`: that batch has not passed its checks, so the card is handed to nobody.
    """

    region_code: str
    bank_code: str
    next: ApplicationStage | None
    batch_id: str | None
    under_test: bool


class StaffApplicationPage(View):
    """Applications of my regions, newest first."""

    items: list[StaffApplicationView]
    next_cursor: str | None
    has_more: bool


class ApplicationRowView(View):
    """What became of a row, counted from 1. `code` and `message` say why it was refused."""

    row: int
    result: Literal["accepted", "refused"]
    application_id: str | None
    code: str | None
    message: str | None


class ApplicationRowsView(View):
    """What became of each row, in their order."""

    items: list[ApplicationRowView]


def application_view(application: Application, region: Region, locale: Locale) -> ApplicationView:
    made = application.made.card_id if application.made else None
    return ApplicationView(
        application_id=application.application_id,
        kind=application.kind,
        card_id=application.replaces or made,
        new_card_id=made,
        stage=application.stage,
        stages=[StageView(stage=reached.stage, at=reached.at) for reached in application.stages],
        reason=application.reason,
        rejection=application.rejection,
        collect_at=place_to_fetch(application, region, locale) if application.to_be_fetched else None,
    )


def staff_application_view(application: Application, region: Region, locale: Locale) -> StaffApplicationView:
    return StaffApplicationView(
        **dict(application_view(application, region, locale)),
        region_code=application.region_code,
        bank_code=application.bank_code,
        next=application.next_stage,
        batch_id=application.batch_id,
        under_test=application.under_test,
    )


def rows_view(answers: list[RowAnswer], locale: Locale) -> ApplicationRowsView:
    return ApplicationRowsView(items=[_row_view(answer, locale) for answer in answers])


def _row_view(answer: RowAnswer, locale: Locale) -> ApplicationRowView:
    code, message = (None, None) if answer.refusal is None else _why(answer.refusal, locale)
    return ApplicationRowView(
        row=answer.row,
        result=answer.result,
        application_id=answer.application_id,
        code=code,
        message=message,
    )


def _why(refusal: Refusal, locale: Locale) -> tuple[str, str]:
    """The code and the advice of a refused row; the first fault of a field, where that is what is wrong."""
    if refusal.errors:
        fault = refusal.errors[0]
        return fault.code, text(locale, f"fields.{fault.code}", **fault.facts)
    key = f"reasons.{refusal.facts.get('reason')}"
    return refusal.code, text(locale, key if key in catalogue() else f"problems.{refusal.code}.detail")
