"""The sandbox over HTTP. These routes exist only where the environment says so; elsewhere nobody can tell they were written."""

from typing import Final

from handlers.access import Access
from handlers.endpoints import Call, Route
from schemas.sandbox import (
    ClockAdvance,
    ClockView,
    FaceView,
    FaultRequest,
    FaultView,
    MessageSearch,
    MessagesView,
    PersonasView,
    ResetView,
    message_view,
    persona_view,
)
from schemas.wire import EmptyBody
from service.errors import Refusal
from service.ids import is_id
from service.locale import Bilingual
from service.sandbox.gateways import REFERENCE

_FACE_IS_RIGHT: Final = Bilingual(zh="人脸核验通过，请返回并确认。", en="Your face was verified. Go back and confirm.")


async def list_personas(call: Call[None]) -> PersonasView:
    """Everybody who lives here, with all that is needed to play them."""
    personas = call.services.sandbox().personas()
    return PersonasView(items=[persona_view(persona, call.locale) for persona in personas])


async def search_messages(call: Call[MessageSearch]) -> MessagesView:
    """What was sent to a mobile, newest first, with whatever was on its way."""
    sent = await call.services.sandbox().messages(call.body.to)
    return MessagesView(items=[message_view(message) for message in sent])


async def advance_clock(call: Call[ClockAdvance]) -> ClockView:
    """Move the service's time forward: codes expire, a temporary loss ends."""
    sandbox = call.services.sandbox()
    now = await sandbox.advance(call.body.advance_seconds)
    return ClockView(now=now, offset_seconds=int(sandbox.ahead.total_seconds()))


async def reset(call: Call[EmptyBody]) -> ResetView:
    """Bring everybody back as they were. Who is signed in stays signed in."""
    sandbox = call.services.sandbox()
    now = await sandbox.reset()
    return ResetView(now=now, personas=len(sandbox.personas()))


async def set_fault(call: Call[FaultRequest]) -> FaultView:
    """Let another system fail at its next calls."""
    asked = call.body
    await call.services.sandbox().set_fault(asked.gateway, asked.fault, asked.times)
    return FaultView(gateway=asked.gateway, fault=asked.fault, times=asked.times)


async def show_face(call: Call[None]) -> FaceView:
    """The page of the face provider, as the sandbox plays it."""
    if not is_id(REFERENCE, call.path("reference")):
        raise Refusal("not_found")
    return FaceView(status="passed", message=_FACE_IS_RIGHT.read_in(call.locale))


# fmt: off
SANDBOX_ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/sandbox/personas", list_personas, Access.PUBLIC, PersonasView, "Sandbox"),
    Route("POST", "/sandbox/messages/search", search_messages, Access.PUBLIC, MessagesView, "Sandbox", body=MessageSearch),
    Route("POST", "/sandbox/clock", advance_clock, Access.PUBLIC, ClockView, "Sandbox", body=ClockAdvance),
    Route("POST", "/sandbox/reset", reset, Access.PUBLIC, ResetView, "Sandbox", refuses=("forbidden",)),
    Route("POST", "/sandbox/faults", set_fault, Access.PUBLIC, FaultView, "Sandbox", body=FaultRequest),
    Route("GET", "/sandbox/face/{reference}", show_face, Access.PUBLIC, FaceView, "Sandbox", refuses=("not_found",)),
)
# fmt: on
