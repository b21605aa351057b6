"""Dependants on the wire: whom I may act for, and until when."""

from typing import Annotated

from pydantic import Field

from schemas.numbers import HouseholdRegister, IdNumber, Name
from schemas.wire import Body, Day, View
from service.dependants import Household, Linked, Relationship
from service.masking import mask_name

_Relationship = Annotated[
    Relationship,
    Field(description="child: an own, adopted or step child; ward: another minor whose guardian one is by law."),
]


class DependantLink(Body):
    """Whom to act for; all of it as in the household register that the two share."""

    name: Name
    id_number: IdNumber
    relationship: _Relationship
    household_register: HouseholdRegister

    def household(self) -> Household:
        return Household(self.name, self.id_number, self.relationship, self.household_register)


class DependantView(View):
    """Somebody I may act for, up to but not on the day `until`."""

    dependant_id: str
    name_masked: str
    relationship: _Relationship
    until: Day


class DependantPage(View):
    """Whom I may act for."""

    items: list[DependantView]
    next_cursor: str | None
    has_more: bool


def dependant_view(linked: Linked) -> DependantView:
    return DependantView(
        dependant_id=linked.link.dependant_id,
        name_masked=mask_name(linked.name),
        relationship=linked.link.relationship,
        until=linked.link.until,
    )
