"""Who gets in: every route of the table, asked by nobody, a resident, and an operator of every role.

A route that is added later is asked by itself: what its row says is what must be so.
"""

import re
from collections.abc import AsyncIterator, Mapping

import pytest
from api.client import Api, Reply

from handlers.access import Access
from handlers.endpoints import Route
from handlers.routes import ROUTES
from handlers.sandbox import SANDBOX_ROUTES
from service.actors import STAFF_ROLES
from service.server import Served

ALL = (*ROUTES, *SANDBOX_ROUTES)
NOBODY, RESIDENT = "nobody", "holder"
EVERYBODY = (NOBODY, RESIDENT, *STAFF_ROLES)
IN = "let in"

# What a blank of a path may hold; what is not here is the id of something that is not there.
_BLANKS = {"page_id": "home", "region_code": "990100"}


def expected(route: Route, who: str) -> str:
    """The code that somebody is turned away with, or that they are let in."""
    match route.access:
        case Access.PUBLIC | Access.EITHER:
            return IN
        case Access.SIGNED_IN:
            return "unauthenticated" if who == NOBODY else IN
        case Access.HOLDER:
            return {NOBODY: "unauthenticated", RESIDENT: IN}.get(who, "forbidden")
        case Access.STAFF:
            turned_away = {NOBODY: "unauthenticated", RESIDENT: "forbidden"}
            return IN if who in route.roles else turned_away.get(who, "channel_not_allowed")


def came_to(reply: Reply) -> str:
    """What came of asking: whoever is told that a body is wrong, or that a thing is not there, was let in."""
    refused = reply.status in {401, 403} and reply.code in {"unauthenticated", "forbidden", "channel_not_allowed"}
    return reply.code if refused else IN


async def ask(api: Api, route: Route) -> Reply:
    """Ask in a way that changes nothing: every body is refused for a field that is none."""
    path = re.sub(r"{(\w+)}", lambda blank: _BLANKS.get(blank[1], f"{blank[1][:4].strip('_')}_{'a' * 24}"), route.path)
    if route.method == "GET":
        return await api.get(path)
    return await api.post(path, {"noSuchField": 1}, key="new" if route.keyed else None)


@pytest.fixture(scope="module")
async def everybody(served: Served) -> AsyncIterator[Mapping[str, Api]]:
    """A client for each, by role; the resident is known as surely as can be."""
    async with Api(served.url) as api:
        await api.post("/sandbox/reset")
        personas = (await api.get("/sandbox/personas")).json["items"]
        keys = {persona["role"]: persona["key"] for persona in personas if persona["kind"] == "operator"}
        staff: dict[str, Api] = {role: await api.sign_in_staff(keys[role]) for role in STAFF_ROLES}
        yield {NOBODY: api, RESIDENT: await api.sign_in("active", "face"), **staff}


@pytest.mark.parametrize("route", ALL, ids=lambda route: f"{route.method} {route.path}")
async def test_only_those_get_in_whom_the_row_names(everybody: Mapping[str, Api], route: Route) -> None:
    replies = {who: await ask(everybody[who], route) for who in EVERYBODY}
    assert {who: came_to(reply) for who, reply in replies.items()} == {who: expected(route, who) for who in EVERYBODY}
    if route.method == "POST":
        # So nothing happened: everybody can be asked again.
        assert {reply.status for who, reply in replies.items() if expected(route, who) == IN} <= {422}


@pytest.mark.parametrize("route", [route for route in ALL if route.access is Access.STAFF], ids=lambda route: route.path)
async def test_who_has_another_role_is_told_where_it_can_be_done(everybody: Mapping[str, Api], route: Route) -> None:
    for role in set(STAFF_ROLES) - set(route.roles):
        reply = await ask(everybody[role], route)
        assert reply.json["channels"] == sorted(reply.json["channels"])


def test_there_are_rows_of_every_kind() -> None:
    """Otherwise the walk above would prove less than it seems to."""
    assert {route.access for route in ALL} == {*Access}
    assert all(set(route.roles) <= set(STAFF_ROLES) for route in ALL)
