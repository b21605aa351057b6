"""Activation at a counter, on the wire."""

from typing import Annotated

from pydantic import Field

from schemas.hotline import CallTicket
from schemas.numbers import CardNumberText, HouseholdRegister, IdNumber, OneTimeCode
from schemas.staff_cards import Materials
from schemas.wire import Body
from service.activations import Function
from service.counters import Given, GuardianThere, Wanted


class GuardianAtCounter(Body):
    """Who stands there for a minor: of age, and of the same household register."""

    id_number: IdNumber
    household_register: HouseholdRegister

    def there(self) -> GuardianThere:
        return GuardianThere(self.id_number, self.household_register)


class CounterActivation(Body):
    """The card, its holder, what to activate and what was shown; for a minor the guardian; on the phone ticket and code."""

    card_number: CardNumberText
    id_number: IdNumber
    functions: Annotated[
        list[Function],
        Field(min_length=1, max_length=2, description="The bank function is activated at an outlet of the card's own bank."),
    ]
    materials: Materials
    guardian: GuardianAtCounter | None = None
    ticket: CallTicket | None = None
    code: OneTimeCode | None = None

    def wanted(self) -> Wanted:
        guardian = self.guardian.there() if self.guardian else None
        given = Given(self.card_number, self.id_number, guardian)
        return Wanted(given, frozenset(self.functions), self.materials, self.ticket, self.code)
