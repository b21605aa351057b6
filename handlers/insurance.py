"""Insurance over HTTP: registering employees and oneself, ending a registration, and what one is insured in."""

from typing import Any

from handlers.endpoints import Call
from schemas.insurance import (
    EmployeeRegistrations,
    EmploymentEnd,
    InsuranceStatusView,
    RegistrationRowsView,
    RegistrationView,
    SelfRegistration,
    registration_view,
    rows_view,
    status_view,
)
from service.clock import CHINA
from service.registrations import Filing


async def register_employees(call: Call[EmployeeRegistrations]) -> RegistrationRowsView:
    """Register people whom my house has hired for social insurance, each answered by itself. Late is accepted and marked."""
    today = call.now.astimezone(CHINA).date()
    rows = [row.hiring(today) for row in call.body.rows]
    answers = await call.services.registrations.register_employees(_filing(call), call.body.region_code, rows)
    call.services.relay.wake()
    return rows_view(answers, call.locale)


async def end_employment(call: Call[EmploymentEnd]) -> RegistrationView:
    """End a registration of my house. Ending it again says the same and changes nothing."""
    body, registrations = call.body, call.services.registrations
    ended = await registrations.end_employment(_filing(call), call.path("registration_id"), body.ended_on, body.reason)
    call.services.relay.wake()
    return registration_view(ended)


async def register_myself(call: Call[SelfRegistration]) -> RegistrationView:
    """Register for pension or medical insurance without an employer. Registering again says the same."""
    body, registrations = call.body, call.services.registrations
    made = await registrations.register_oneself(call.holder_id, body.region_code, body.wanted(), call.mark, call.locale)
    call.services.relay.wake()
    return registration_view(made)


async def show_status(call: Call[None]) -> InsuranceStatusView:
    """What I have of each social insurance."""
    insured = await call.services.insurances.status(call.holder_id)
    return status_view(insured, call.now, call.locale)


def _filing(call: Call[Any]) -> Filing:
    return Filing(call.operator, call.mark, call.locale)
