"""What a test of e-cards begins with: somebody who holds one, and a code of it."""

from typing import Any

from api.client import Api, Reply

PASSWORD = "274913"


async def apply(client: Api, key: str = "new", **body: Any) -> Reply:
    return await client.post("/v1/ecard", body, key=key)


async def holding(api: Api, persona: str = "active", **body: Any) -> Api:
    """A persona who is signed in and has an e-card."""
    client = await api.sign_in(persona)
    done = await apply(client, **body)
    assert done.status == 200, done.raw
    return client


async def paying(api: Api, persona: str = "active") -> Api:
    """The same with one that pays."""
    return await holding(api, persona, level=2, password=PASSWORD)


async def code_of(client: Api, **body: Any) -> str:
    reply = await client.post("/v1/ecard/codes", body)
    assert reply.status == 200, reply.raw
    return str(reply.json["code"])
