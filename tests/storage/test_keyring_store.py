import asyncio
from collections.abc import AsyncIterator

import pytest
from api.client import Api

from service.config import Config
from service.keyring import Keyring, new_keyring
from service.mongo.client import Database
from service.mongo.keyring import holds_the_keyring_of
from service.server import serving
from service.starting import StartError
from service.vault import Vault


@pytest.fixture
async def empty(config: Config) -> AsyncIterator[Database]:
    name = f"{config.mongodb_database}_keyring"
    async with Database(config.mongodb_uri.get_secret_value(), name, deadline_seconds=10, pool=8) as connection:
        yield connection
        await connection.drop()


def _vault(ring: Keyring) -> Vault:
    return Vault(lambda: ring)


async def test_the_first_keyring_is_the_one_and_no_other_after_it(empty: Database) -> None:
    ring = new_keyring("production")
    first, other = _vault(ring), _vault(new_keyring("production"))
    assert all(await asyncio.gather(*(holds_the_keyring_of(empty, first) for _ in range(20))))
    assert await holds_the_keyring_of(empty, other) is False
    assert await holds_the_keyring_of(empty, _vault(ring.rotate_field(0).rotate_signing(0))) is True


async def test_a_sandbox_does_not_touch_a_database_that_has_served_production(empty: Database, config: Config) -> None:
    await holds_the_keyring_of(empty, _vault(new_keyring("production")))
    await empty.collection("cards").replace({"_id": "somebody's"})
    elsewhere = config.model_copy(update={"mongodb_database": f"{config.mongodb_database}_keyring"})
    with pytest.raises(StartError, match="has served production"):
        async with serving(elsewhere, seed_first=True):
            pass
    async with serving(elsewhere) as served, Api(served.url) as api:
        assert (await api.get("/readyz")).json["reason"] == "seeding"
        assert (await api.post("/sandbox/reset")).code == "forbidden"
    assert await empty.collection("cards").find_one({"_id": "somebody's"}) is not None
