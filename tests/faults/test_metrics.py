"""Collecting metrics while the database is away: what is known without it is there at once, and the rest is missing by name."""

import time
from pathlib import Path
from urllib.parse import urlsplit

from api.client import Api
from faults.workers import Wire, environment, worker

from handlers.gauges import LOOK_SECONDS
from service.config import Config


async def _metrics(admin_url: str) -> tuple[str, float]:
    began = time.monotonic()
    async with Api(admin_url) as admin:
        reply = await admin.send("GET", "/metrics", checked=False)
    assert reply.status == 200
    return reply.raw.decode(), time.monotonic() - began


async def test_a_database_that_is_away_holds_up_no_metrics(config: Config, database: object, tmp_path: Path) -> None:
    del database
    uri = urlsplit(config.mongodb_uri.get_secret_value())
    async with Wire(uri.hostname or "", uri.port or 27017) as wire:
        told = environment(config, YIKA_MONGODB_URI=f"mongodb://127.0.0.1:{wire.port}/?directConnection=true")
        async with worker(told, tmp_path / "log") as process:
            before, _ = await _metrics(process.admin_url)
            wire.stall()
            away, seconds = await _metrics(process.admin_url)
            wire.flow()
            again, _ = await _metrics(process.admin_url)
    for text in (before, again):
        assert 'yika_gauges_read{source="relay"} 1.0' in text
        assert "yika_relay_oldest_seconds " in text
    assert seconds < LOOK_SECONDS + 2
    assert 'yika_gauges_read{source="relay"} 0.0' in away
    assert 'yika_gauges_read{source="ledger"} 0.0' in away
    # A number from before would look well.
    assert "yika_relay_oldest_seconds " not in away
    assert "yika_ledger_waiting " not in away
    assert "yika_requests_total{" in away
    assert "process_resident_memory_bytes" in away
