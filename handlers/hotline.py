"""The hotline over HTTP."""

from handlers.endpoints import Call
from schemas.hotline import HotlineCodeRequest, HotlineCodeView, hotline_code_view


async def send_hotline_code(call: Call[HotlineCodeRequest]) -> HotlineCodeView:
    """Send a code to a caller's registered mobile, to be read back. The answer is the same whether or not there is one."""
    sent = await call.services.hotline.send_code(call.operator, call.body.id_number.number, call.body.ticket)
    return hotline_code_view(sent)
