"""Operators over HTTP."""

from handlers.endpoints import Call
from schemas.operators import OperatorView, StaffSignIn, StaffTokensView, operator_view, staff_tokens_view


async def open_staff_session(call: Call[StaffSignIn]) -> StaffTokensView:
    """Sign in as an operator: password, and a code of the authenticator, which is good once. A refusal never says why."""
    body = call.body
    operator, grant = await call.services.operators.sign_in(body.username, body.password, body.totp, call.address)
    call.request.outcome = "signedIn"
    return staff_tokens_view(operator, grant, call.locale)


async def show_operator(call: Call[None]) -> OperatorView:
    """Who I am behind the counter."""
    return operator_view(call.operator, call.locale)
