"""Sessions over HTTP."""

from handlers.cursors import cursor, place
from handlers.endpoints import Call, Reply
from schemas.sessions import JwksView, Refresh, SessionPage, TokensView, session_view, tokens_view
from schemas.wire import Empty, EmptyBody
from service.keyring import PUBLISHED_SECONDS


async def refresh_session(call: Call[Refresh]) -> TokensView:
    """Exchange a refresh token for the next tokens. A token that comes a second time ends the session."""
    services = call.services
    grant = await services.sessions.refresh(call.body.refresh_token)
    if grant.session.role != "holder":
        await services.operators.on_duty(grant.session)
    return tokens_view(grant)


async def logout(call: Call[EmptyBody]) -> Empty:
    """End this session."""
    await call.services.sessions.logout(call.session)
    return Empty()


async def list_sessions(call: Call[None]) -> SessionPage:
    """My sessions that are alive."""
    sessions, following = await call.services.sessions.list_mine(call.holder_id, place(call.query.cursor), call.query.limit)
    items = [session_view(session, call.session.session_id) for session in sessions]
    return SessionPage(items=items, next_cursor=cursor(following), has_more=following is not None)


async def revoke_session(call: Call[EmptyBody]) -> Empty:
    """End one of my sessions, everywhere at once."""
    await call.services.sessions.revoke(call.holder_id, call.path("session_id"))
    return Empty()


async def published_keys(call: Call[None]) -> Reply:
    """The keys that verify access tokens and receipts (RFC 7517)."""
    keys = JwksView(keys=call.services.keys.ring.jwks()["keys"])
    return Reply(keys, headers={"Cache-Control": f"public, max-age={PUBLISHED_SECONDS}"})
