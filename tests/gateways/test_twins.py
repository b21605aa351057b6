"""The twin of a provider as a process of its own, for tests that kill whoever sends."""

import asyncio
import sys
from pathlib import Path

import aiohttp
from twins.sms_provider import WEBHOOK_SECRET

from service.gateways.sms import Sms
from service.gateways.webhook import WebhookSms

TESTS = Path(__file__).parents[1]


async def test_it_outlives_who_sends_and_tells_what_went_out() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "twins.sms_provider", "--deduplicates"), cwd=TESTS, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        word, port = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().split()
        assert word == "listening"
        for _ in range(2):
            gateway = WebhookSms(f"http://127.0.0.1:{port}/sms", lambda: WEBHOOK_SECRET)
            await gateway.send(Sms("msg_a", "13800138000", "card_activated", "text", None, {}, "en"))
            await gateway.close()
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/delivered") as answer:
            told = await answer.json()
        assert [one["message_id"] for one in told["delivered"]] == ["msg_a"]
        assert told["offers"] == {"msg_a": 2}
    finally:
        process.kill()
        await process.wait()
