"""Production batches over HTTP: beginning them, their checks, and looking at them."""

from handlers.cursors import moment_cursor, moment_place
from handlers.endpoints import Call
from schemas.production_batches import BatchCheck, BatchPage, BatchStart, BatchView, batch_view
from service.changes import Order


async def begin_batch(call: Call[BatchStart]) -> BatchView:
    """Put applications into a batch that is about to be made. The first of a supplier's product in a region is a test batch."""
    batches = call.services.production_batches
    batch = await batches.begin(call.body.plan(), Order(call.actor, call.mark, call.locale))
    call.services.relay.wake()
    return batch_view(batch)


async def check_batch(call: Call[BatchCheck]) -> BatchView:
    """Say what one of the checks of a test batch has found. With all three passed its cards may be handed out."""
    batches, body, order = call.services.production_batches, call.body, Order(call.actor, call.mark, call.locale)
    batch = await batches.check(call.path("batch_id"), body.check, order, passed=body.passed)
    call.services.relay.wake()
    return batch_view(batch)


async def show_batch(call: Call[None]) -> BatchView:
    """One batch of my regions."""
    return batch_view(await call.services.production_batches.one(call.path("batch_id"), call.actor))


async def list_batches(call: Call[None]) -> BatchPage:
    """Batches of my regions, newest first."""
    after = moment_place(call.query.cursor, "bat")
    found, following = await call.services.production_batches.list_for(call.actor, after, call.query.limit)
    items = [batch_view(batch) for batch in found]
    return BatchPage(items=items, next_cursor=moment_cursor(following), has_more=following is not None)
