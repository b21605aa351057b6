"""What stands on a counter in a test: the numbers of a persona, what they bring, and what is written down about it."""

from typing import Any

from api.client import Api, Reply

ACTIVATIONS = "/v1/staff/activations"
LOOK_UPS = "/v1/staff/holders/lookup"
ADULT = ["card", "idCard"]
MINOR = ["card", "guardianIdCard", "householdRegister"]


async def numbers(api: Api, key: str, card: int = 0) -> dict[str, str]:
    """The two numbers that an operator types."""
    person = await api.persona(key)
    return {"cardNumber": person["cards"][card]["cardNumber"], "idNumber": person["idNumber"]}


async def guardian_of(api: Api, key: str = "guardian") -> dict[str, str]:
    """A guardian at the counter with the household register."""
    person = await api.persona(key)
    return {"idNumber": person["idNumber"], "householdRegister": person["householdRegister"]}


async def activation(api: Api, key: str, **more: Any) -> dict[str, Any]:
    """The body of an activation of a persona's card, with an adult's materials."""
    return {**await numbers(api, key), "functions": ["social"], "materials": ADULT, **more}


async def activate(operator: Api, key: str, idempotency_key: str = "new", **more: Any) -> Reply:
    """Activate a persona's card at a counter."""
    return await operator.post(ACTIVATIONS, await activation(operator, key, **more), key=idempotency_key)


async def look_up(operator: Api, key: str, **more: Any) -> Reply:
    """Look a persona up."""
    person = await operator.persona(key)
    return await operator.post(LOOK_UPS, {"idNumber": person["idNumber"], "reason": "enquiry", **more})


async def written(api: Api, key: str) -> list[tuple[str, str, str, str | None, str | None]]:
    """What a persona's log says, newest first, as they see it: what, by whom, where, why, in which call."""
    client = await api.sign_in(key, "face")
    entries = await client.accesses()
    return [(entry["action"], entry["by"], entry["channel"], entry["reason"], entry["ticket"]) for entry in entries]


async def told(api: Api, key: str) -> list[str]:
    """The kinds of messages that a persona was sent, but for codes and of sign-ins; newest first."""
    person = await api.persona(key)
    templates = [message["template"] for message in await api.messages(person["mobile"])]
    return [template for template in templates if template not in {"verification_code", "new_device"}]


async def card_of(api: Api, key: str, card: int = 0) -> dict[str, Any]:
    """A persona's card as they see it."""
    client = await api.sign_in(key, "face")
    card_id = (await api.persona(key))["cards"][card]["cardId"]
    shown: dict[str, Any] = (await client.get(f"/v1/cards/{card_id}")).json
    return shown


def plain(reply: Reply) -> dict[str, Any]:
    """An answer without what names the request."""
    return {name: value for name, value in reply.json.items() if name != "requestId"}


def made_up_id_number(number: int) -> str:
    """An ID number that is well-formed and nobody's."""
    first = f"990101197001{number // 1000 + 1:02d}{number % 1000:03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return first + "10X98765432"[sum(int(digit) * weight for digit, weight in zip(first, weights, strict=True)) % 11]
