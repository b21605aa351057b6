"""Visits to designated hospitals, on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.counters import GuardianAtCounter
from schemas.numbers import CardNumberText, IdNumber
from schemas.wire import Body, Instant, View
from service.cards import MedicalStatus
from service.counters import Given
from service.locale import Locale, text
from service.visits import Visited, VisitKind


class VisitReport(Body):
    """Whose card was shown, and for what. A minor's guardian is needed where the visit activates the card."""

    card_number: CardNumberText
    id_number: IdNumber
    kind: VisitKind
    guardian: GuardianAtCounter | None = None

    def given(self) -> Given:
        return Given(self.card_number, self.id_number, self.guardian.there() if self.guardian else None)


class VisitView(View):
    """A visit. `result` says whether it activated the card; the message is the same either way."""

    visit_id: str
    card_id: str
    kind: VisitKind
    at: Instant
    result: Annotated[
        Literal["activated", "alreadyActivated"], Field(description="Whether this visit activated the card, or it was active.")
    ]
    message: str
    medical_account: MedicalStatus


def visit_view(visited: Visited, locale: Locale) -> VisitView:
    visit = visited.visit
    return VisitView(
        visit_id=visit.visit_id,
        card_id=visit.card_id,
        kind=visit.kind,
        at=visit.at,
        result="activated" if visit.activated else "alreadyActivated",
        message=text(locale, "activation.activated"),
        medical_account=visited.medical,
    )
