"""The floors: what aiohttp costs when nothing is done, and what one read through the driver costs.

`python -m bench.floors constant|find`. True here: bare aiohttp on uvloop, no middleware, nobody is asked for a token; a
floor is not a peer, it is what the rest is measured against. Reads PORT, MONGODB_URI, MONGODB_DATABASE.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import uvloop
from aiohttp import web
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection

from service.clock import show
from service.masking import display_fen

PATH: Final = "/v1/cards/{card_id}/balance"
Cards = AsyncIOMotorCollection[dict[str, Any]]
CARDS: Final = web.AppKey("cards", Cards)

# From when on the region of most people calls a figure old.
OLD_AFTER: Final = timedelta(hours=48)

# As long as a real answer.
_CONSTANT: Final = orjson.dumps(
    {
        "cardId": "card_" + "a" * 24,
        "asOf": "2026-11-22T16:00:00.000+08:00",
        "items": [
            {
                "account": account,
                "balanceFen": 12_345_678,
                "display": "123,456.78",
                "currency": "CNY",
                "status": "normal",
                "asOf": "2026-11-22T16:00:00.000+08:00",
                "source": source,
                "stale": False,
            }
            for account, source in (
                ("medical", "medicalInsuranceBureau"),
                ("pension", "pensionInsuranceBureau"),
                ("housingFund", "housingFundCentre"),
            )
        ],
    }
)


async def _constant(request: web.Request) -> web.Response:
    del request
    return web.Response(body=_CONSTANT, content_type="application/json")


async def _find(request: web.Request) -> web.Response:
    card_id = request.match_info["card_id"]
    card = await request.app[CARDS].find_one({"_id": card_id}, {"accounts": 1, "medical": 1})
    if card is None:
        raise web.HTTPNotFound
    return web.Response(body=orjson.dumps(_view(card)), content_type="application/json")


def _view(card: dict[str, Any]) -> dict[str, Any]:
    oldest: datetime = min(item["asOf"] for item in card["accounts"])
    old_before = datetime.now(UTC) - OLD_AFTER
    return {
        "cardId": card["_id"],
        "asOf": show(oldest),
        "items": [
            {
                "account": item["account"],
                "balanceFen": item["balanceFen"],
                "display": display_fen(item["balanceFen"]),
                "currency": "CNY",
                "status": card["medical"] if item["account"] == "medical" else item["status"],
                "asOf": show(item["asOf"]),
                "source": item["source"],
                "stale": item["asOf"] < old_before,
            }
            for item in card["accounts"]
        ],
    }


async def _application(kind: str) -> web.Application:
    app = web.Application()
    if kind == "constant":
        app.router.add_get(PATH, _constant)
        return app
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(os.environ["MONGODB_URI"], tz_aware=True)
    app[CARDS] = client[os.environ["MONGODB_DATABASE"]]["cards"]
    app.router.add_get(PATH, _find)
    return app


if __name__ == "__main__":
    web.run_app(
        _application(sys.argv[1]),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        access_log=None,
        print=lambda *_: None,
        loop=uvloop.new_event_loop(),
    )
