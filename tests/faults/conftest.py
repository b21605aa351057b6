"""What tests with several processes share."""

from collections.abc import AsyncIterator

import pytest
from faults.workers import Worker, environment, worker

from service.config import Config
from service.mongo.client import Database


@pytest.fixture(scope="module")
async def survivor(config: Config, database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A process that lives on."""
    del database
    async with worker(environment(config), tmp_path_factory.mktemp("logs") / "survivor.log") as lives:
        yield lives
