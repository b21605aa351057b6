"""What is written down: every route that shows or changes somebody's data leaves an entry in their log.

A route that is added later is asked by itself: it says in its row what it leaves, or stands in one of the two lists below.
"""

import re
from collections.abc import AsyncIterator

import pytest
from api.client import Api

from handlers.access import Access
from handlers.endpoints import Route
from handlers.routes import ROUTES
from service.server import Served

# What use cases write by themselves: at the counter before it is done, for a guardian where it is judged whether they may, and
# for a holder's own change of a card when the card's history is carried.
WRITTEN = {
    "POST /v1/me/reveal": "reveal",
    "POST /v1/me/contacts/email/confirm": "changeEmail",
    "POST /v1/me/contacts/email/remove": "removeEmail",
    "POST /v1/me/contacts/preferences": "changePreferences",
    "POST /v1/me/export": "export",
    "POST /v1/me/erasure": "askErasure",
    "POST /v1/me/consents": "giveConsent",
    "POST /v1/me/consents/{consent_id}/withdraw": "withdrawConsent",
    "POST /v1/dependants": "linkGuardian",
    "POST /v1/dependants/{dependant_id}/end": "endGuardianship",
    "POST /v1/cards/{card_id}/loss": "reportTemporaryLoss",
    "POST /v1/cards/{card_id}/loss/cancel": "cancelLoss",
    "POST /v1/cards/{card_id}/pin": "changePin",
    "POST /v1/activations": "activate",
    "POST /v1/ecard": "applyEcard",
    "POST /v1/ecard/codes": "showEcardCode",
    "POST /v1/staff/holders/lookup": "lookUp",
    "POST /v1/staff/activations": "activate",
    "POST /v1/staff/hotline/codes": "sendCode",
    "POST /v1/staff/visits": "visit",
    "POST /v1/staff/cards/{card_id}/loss": "reportTemporaryLoss",
    "POST /v1/staff/cards/{card_id}/loss/cancel": "cancelLoss",
    "POST /v1/staff/cards/{card_id}/pin/reset": "resetPin",
    "POST /v1/staff/cards/{card_id}/lock": "lock",
    "POST /v1/staff/cards/{card_id}/unlock": "unlock",
    "POST /v1/staff/cards/{card_id}/cancel": "cancel",
    "POST /v1/staff/cards/{card_id}/activation/reverse": "reverseActivation",
    "POST /v1/staff/cards/{card_id}/bank-activation": "activateBank",
    "POST /v1/staff/cards/{card_id}/replacement": "replace",
    "POST /v1/staff/pin-checks": "checkPin",
    "POST /v1/staff/ecard-codes/redeem": "redeemEcard",
    "POST /v1/employer/registrations": "registerInsurance",
    "POST /v1/employer/registrations/{registration_id}/end": "endInsurance",
    "POST /v1/employer/applications": "applyForCard",
    "POST /v1/staff/applications": "applyForCard",
    "POST /v1/staff/applications/{application_id}/advance": "advanceApplication",
    "POST /v1/staff/batches/{batch_id}/checks": "checkBatch",
    "POST /v1/staff/approvals/{approval_id}/approve": "unlock",
    "POST /v1/staff/approvals/{approval_id}/reject": "unlock",
    "GET /v1/pages/{page_id}": "seeBalance",
}
# What leaves nothing, and why.
NOTHING = {
    "GET /v1/me/access-log": "the log itself: it would stand at its own top and push off what it was opened for",
    "POST /v1/ecard/codes/svg": "draws the text that it was sent, and knows nobody",
    "GET /v1/staff/me": "the operator's own",
    "GET /v1/staff/applications": "ids and stages; whose they are is not said",
    "GET /v1/staff/approvals": "ids of cards and what was asked; whose they are is not said",
    "POST /v1/staff/batches": "ids of applications; nothing of a person is shown or changed",
    "GET /v1/staff/batches": "ids of applications; whose they are is not said",
    "GET /v1/staff/batches/{batch_id}": "ids of applications; whose they are is not said",
}


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


ASKED = [route for route in ROUTES if route.access is not Access.PUBLIC]


@pytest.mark.parametrize("route", ASKED, ids=name)
def test_a_route_says_what_it_leaves_or_why_nothing(route: Route) -> None:
    places = [bool(route.leaves), name(route) in WRITTEN, name(route) in NOTHING]
    assert places.count(True) == 1


def test_the_lists_name_routes_that_there_are() -> None:
    assert {*WRITTEN, *NOTHING} <= {name(route) for route in ASKED}


async def log_of(client: Api) -> list[str]:
    items = (await client.get("/v1/me/access-log?limit=100")).json["items"]
    return [item["action"] for item in items]


@pytest.fixture(scope="module")
async def looker(served: Served) -> AsyncIterator[tuple[Api, dict[str, str]]]:
    """Somebody who has one of everything that is looked at, and the ids of it."""
    async with Api(served.url) as api:
        await api.post("/sandbox/reset")
        client = await api.sign_in("sealed", "face")
        activated = (await client.activate(await api.details("sealed"))).json
        card_id = activated["cardId"]
        application = (await client.post(f"/v1/cards/{card_id}/replacement", {"reason": "damaged"}, key="new")).json
        await client.post("/v1/ecard", {"cardId": card_id, "level": 1, "password": "305817"}, key="new", checked=False)
        receipts = (await client.get("/v1/receipts")).json["items"]
        # Another session, so that everything in it is looked at for the first time.
        yield (
            await api.sign_in("sealed", "face"),
            {
                "card_id": card_id,
                "activation_id": activated["activationId"],
                "application_id": application["applicationId"],
                "receipt_id": receipts[0]["receiptId"],
                "page_id": "social-security-card",
            },
        )


LOOKED_AT = [route for route in ASKED if route.method == "GET" and (route.leaves or name(route) in WRITTEN)]


async def test_each_own_look_is_written_once_a_session(looker: tuple[Api, dict[str, str]]) -> None:
    client, ids = looker
    paths = [re.sub(r"{(\w+)}", lambda blank: ids[blank[1]], route.path) for route in LOOKED_AT]
    logs = []
    for _ in range(2):
        # A minute for as many look-ups as one may make.
        await client.as_(None).advance(61)
        for path in paths:
            reply = await client.get(path)
            assert reply.status == 200, reply.raw
        logs.append(await log_of(client))
    assert {route.leaves or WRITTEN[name(route)] for route in LOOKED_AT} <= set(logs[0])
    assert logs[0] == logs[1]


async def test_a_look_that_is_refused_is_none(looker: tuple[Api, dict[str, str]]) -> None:
    client, _ = looker
    others = (await client.persona("active"))["cards"][0]["cardId"]
    before = await log_of(client)
    assert (await client.get(f"/v1/cards/{others}/balance")).status == 404
    assert await log_of(client) == before
