"""Identity verification over HTTP."""

from handlers.endpoints import Call
from schemas.identity import VerificationProof, VerificationStart, VerificationView, verification_view
from schemas.sessions import TokensView, tokens_view
from schemas.wire import EmptyBody


async def start_verification(call: Call[VerificationStart]) -> VerificationView:
    """Start proving who somebody is. The answer is the same whether or not there is such a person."""
    started = await call.services.identity.start(call.body.applicant(), call.address, call.locale)
    return verification_view(started)


async def resend_code(call: Call[EmptyBody]) -> VerificationView:
    """Send a new code; the old one is void from now on."""
    return verification_view(await call.services.identity.resend(call.path("verification_id")))


async def confirm_verification(call: Call[VerificationProof]) -> TokensView:
    """Prove it, and get a session."""
    code, password = call.body.code, call.body.password
    call.request.kind = "sms" if code is not None else "face" if password is None else "password"
    grant = await call.services.identity.confirm(
        call.path("verification_id"), code=code, password=password, user_agent=call.request.headers.get("User-Agent", "")
    )
    call.request.outcome = "signedIn"
    return tokens_view(grant)
