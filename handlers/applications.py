"""Applications over HTTP: applying, how far it is, and what operators do about it."""

import asyncio
from typing import Any

from handlers.cursors import moment_cursor, moment_place
from handlers.endpoints import Call
from schemas.applications import (
    Advance,
    ApplicationPage,
    ApplicationRowsView,
    ApplicationView,
    BulkApplication,
    FirstCardApplication,
    Replacement,
    StaffApplicationPage,
    StaffApplicationView,
    StaffReplacement,
    application_view,
    rows_view,
    staff_application_view,
)
from service.activations import circumstances_of
from service.applications import Application
from service.changes import Order
from service.clock import CHINA
from service.staff_cards import Task
from service.transitions import Action


async def list_applications(call: Call[None]) -> ApplicationPage:
    """My applications for cards, newest first."""
    after = moment_place(call.query.cursor, "app")
    found, following = await call.services.applications.list_mine(call.holder_id, after, call.query.limit)
    items = [_view(call, application) for application in found]
    return ApplicationPage(items=items, next_cursor=moment_cursor(following), has_more=following is not None)


async def show_application(call: Call[None]) -> ApplicationView:
    """How far one of my applications is."""
    return _view(call, await call.services.applications.mine(call.holder_id, call.path("application_id")))


async def apply_for_card(call: Call[FirstCardApplication]) -> ApplicationView:
    """Apply for a first card, or for one after mine was cancelled."""
    body, applications = call.body, call.services.applications
    return _made(call, await applications.apply_online(call.holder_id, body.region_code, body.bank, _order(call)))


async def replace_card(call: Call[Replacement]) -> ApplicationView:
    """Apply for a new card in the place of one of mine, which is cancelled when I fetch the new one."""
    services = call.services
    card, holder = await asyncio.gather(
        services.cards.mine(call.holder_id, call.path("card_id")), services.holders.me(call.holder_id)
    )
    region, home = services.regions.get(card.region_code), services.regions.get(holder.region_code)
    about = circumstances_of(holder, region, home, services.clock.now())
    order = Order(call.actor, call.mark, call.locale, about=about)
    return _made(call, await services.applications.replace(card, call.body.reason, order))


async def replace_card_at_counter(call: Call[StaffReplacement]) -> ApplicationView:
    """Apply for a new card for somebody at the counter."""
    services, body = call.services, call.body
    task = Task(Action.REPLACE, body.shown(), body.reason, call.mark, call.locale)
    async with services.staff_cards.admit(call.operator, call.path("card_id"), task) as at:
        return _made(call, await services.applications.replace(at.card, body.reason, at.order))


async def apply_for_employees(call: Call[BulkApplication]) -> ApplicationRowsView:
    """Confirm my people's information and apply for their first cards, each row answered by itself."""
    return await _bulk(call)


async def apply_for_residents(call: Call[BulkApplication]) -> ApplicationRowsView:
    """Confirm the information of people without an employer or school and apply for their first cards, row by row."""
    return await _bulk(call)


async def list_region_applications(call: Call[None]) -> StaffApplicationPage:
    """Applications of my regions, and of my bank where I stand for one, newest first."""
    after = moment_place(call.query.cursor, "app")
    applications, query = call.services.applications, call.query
    found, following = await applications.list_for(call.actor, query.stage, after, query.limit)
    items = [_staff_view(call, application) for application in found]
    return StaffApplicationPage(items=items, next_cursor=moment_cursor(following), has_more=following is not None)


async def advance_application(call: Call[Advance]) -> StaffApplicationView:
    """Bring an application to its next stage, or end it."""
    moved = await call.services.production.advance(call.path("application_id"), call.body.move(), _order(call))
    call.services.relay.wake()
    return _staff_view(call, moved)


async def _bulk(call: Call[BulkApplication]) -> ApplicationRowsView:
    today = call.now.astimezone(CHINA).date()
    rows = [row.content(today) for row in call.body.rows]
    answers = await call.services.bulk_applications.apply(call.operator, call.body.region_code, rows, _order(call))
    call.services.relay.wake()
    return rows_view(answers, call.locale)


def _order(call: Call[Any]) -> Order:
    return Order(call.actor, call.mark, call.locale)


def _made(call: Call[Any], application: Application) -> ApplicationView:
    call.services.relay.wake()
    return _view(call, application)


def _view(call: Call[Any], application: Application) -> ApplicationView:
    return application_view(application, call.services.regions.get(application.region_code), call.locale)


def _staff_view(call: Call[Any], application: Application) -> StaffApplicationView:
    return staff_application_view(application, call.services.regions.get(application.region_code), call.locale)
