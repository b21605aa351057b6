"""What it takes in a test to bring a card from its application to its holder's hand."""

import time
from collections.abc import Mapping
from datetime import date
from typing import Any

from api.client import Api, Reply

from service.sandbox.invention import Inventor

APPLICATIONS, BATCHES = "/v1/applications", "/v1/staff/batches"
WAY = [
    "accepted",
    "bankPreOpened",
    "inProduction",
    "shippedByProvince",
    "receivedByCity",
    "receivedByBank",
    "delivered",
]
CHECKS = ("compliance", "security", "interRegion")
# Another for each card: what one test made is still in nobody's way in the next.
_INVENTOR = Inventor(f"card-office/{time.time_ns()}")


def card_numbers(region: str = "990100") -> dict[str, str]:
    """The numbers that a producer gives a new card."""
    return {
        "cardNumber": _INVENTOR.card_number(),
        "identificationCode": _INVENTOR.identification_code(region),
        "bankAccount": _INVENTOR.bank_number(),
    }


def stranger(**instead: Any) -> dict[str, Any]:
    """A row about somebody whom nobody knows."""
    born = _INVENTOR.birth_date(earliest=date(1970, 1, 1), latest=date(2000, 12, 31))
    row = {
        "name": _INVENTOR.name(),
        "idNumber": _INVENTOR.resident_id(born=born),
        "mobile": _INVENTOR.mobile(),
        "bank": "B901",
        "photoConfirmed": True,
    }
    return row | instead


def handed_over(**wrong: bool) -> dict[str, Any]:
    """What is said when a card is fetched."""
    checks = {"name": True, "idNumber": True, "photo": True, "bank": True} | wrong
    return {"stage": "delivered", "collectedBy": "holder", "checks": checks}


async def first_card(client: Api, key: str = "new", **instead: Any) -> Reply:
    """The holder applies for a first card."""
    body = {"bank": "B901", "informationConfirmed": True, "photoConfirmed": True} | instead
    return await client.post(APPLICATIONS, body, key=key)


async def own_card(client: Api, number: int = 0) -> dict[str, Any]:
    """One of the cards of who is signed in."""
    cards: list[dict[str, Any]] = (await client.get("/v1/cards")).json["items"]
    return cards[number]


async def replacement(client: Api, card_id: str, reason: str = "damaged", key: str = "new") -> Reply:
    """The holder asks for a new card in the place of one."""
    return await client.post(f"/v1/cards/{card_id}/replacement", {"reason": reason}, key=key)


async def applied(client: Api) -> str:
    """The id of an application for a replacement of the card of who is signed in."""
    reply = await replacement(client, (await own_card(client))["cardId"])
    assert reply.status == 201, reply.raw
    return str(reply.json["applicationId"])


async def advance(operator: Api, application_id: str, body: Mapping[str, Any] | str, key: str = "new") -> Reply:
    """An operator says where an application is."""
    said = {"stage": body} if isinstance(body, str) else dict(body)
    return await operator.post(f"/v1/staff/applications/{application_id}/advance", said, key=key)


async def batch(producer: Api, *application_ids: str, product: str = "gen3-a", key: str = "new") -> Reply:
    """A producer begins a batch."""
    body = {"supplier": "works", "product": product, "regionCode": "990100", "applicationIds": list(application_ids)}
    return await producer.post(BATCHES, body, key=key)


async def check(supervisor: Api, batch_id: str, name: str, *, passed: bool = True, key: str = "new") -> Reply:
    """A supervisor says what a check has found."""
    return await supervisor.post(f"{BATCHES}/{batch_id}/checks", {"check": name, "passed": passed}, key=key)


async def released(producer: Api, supervisor: Api, *application_ids: str, product: str = "gen3-a") -> str:
    """A batch that has passed its checks."""
    reply = await batch(producer, *application_ids, product=product)
    assert reply.status == 201, reply.raw
    batch_id = str(reply.json["batchId"])
    for name in CHECKS:
        assert (await check(supervisor, batch_id, name)).status == 200
    return batch_id


async def bring(producer: Api, application_id: str, to: str, numbers: Mapping[str, str] | None = None) -> Reply:
    """Bring an application forward to a stage; the answer to the last step."""
    reply: Reply | None = None
    state = (await producer.get("/v1/staff/applications?limit=100")).json["items"]
    now = next(one["stage"] for one in state if one["applicationId"] == application_id)
    for stage in WAY[WAY.index(now) + 1 : WAY.index(to) + 1]:
        body: dict[str, Any] = {"stage": stage}
        if stage == "inProduction":
            body |= numbers or card_numbers()
        if stage == "delivered":
            body = handed_over()
        reply = await advance(producer, application_id, body)
        assert reply.status == 200, reply.raw
    assert reply is not None
    return reply
