"""The balance look-up on FastAPI, PyJWT and motor, as their users write it.

Run by uvicorn with uvloop and httptools. Reads PORT, MONGODB_URI, MONGODB_DATABASE, JWKS_FILE, ISSUER and AUDIENCE.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from motor.motor_asyncio import AsyncIOMotorClient
from pydantic import BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

CHINA = timezone(timedelta(hours=8))
KEYS = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(json.loads(Path(os.environ["JWKS_FILE"]).read_bytes())).keys}
ISSUER = os.environ["ISSUER"]
AUDIENCE = os.environ["AUDIENCE"]
# A figure that is older says so.
OLD_AFTER = timedelta(hours=48)
REQUIRED = ["iss", "aud", "sub", "sid", "iat", "exp"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client a process."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(os.environ["MONGODB_URI"], tz_aware=True)
    app.state.database = client[os.environ["MONGODB_DATABASE"]]
    yield
    client.close()


app = FastAPI(lifespan=lifespan)
bearer = HTTPBearer(auto_error=False)


class View(BaseModel):
    """What goes out, in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


def show(moment: datetime) -> str:
    """A time at +08:00 with milliseconds."""
    return moment.astimezone(CHINA).isoformat(timespec="milliseconds")


Instant = Annotated[datetime, PlainSerializer(show, return_type=str)]


class Figure(View):
    """One account."""

    account: str
    balance_fen: int
    display: str
    currency: str
    status: str
    as_of: Instant
    source: str
    stale: bool


class Balance(View):
    """All accounts of a card."""

    card_id: str
    as_of: Instant
    items: list[Figure]


def unauthorized() -> HTTPException:
    """No, and without a reason."""
    return HTTPException(401, headers={"WWW-Authenticate": "Bearer"})


async def holder(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
    """Who asks: a verified token whose session is alive."""
    if credentials is None:
        raise unauthorized()
    token = credentials.credentials
    try:
        header = jwt.get_unverified_header(token)
        key = KEYS.get(header.get("kid"))
        if key is None or header.get("typ") != "at+jwt":
            raise unauthorized()
        claims = jwt.decode(token, key, algorithms=["ES256"], issuer=ISSUER, audience=AUDIENCE, options={"require": REQUIRED})
    except jwt.PyJWTError:
        raise unauthorized() from None
    session = await request.app.state.database.sessions.find_one(
        {"_id": claims["sid"]}, {"holderId": 1, "endedAt": 1, "idleUntil": 1, "expiresAt": 1}
    )
    now = datetime.now(UTC)
    if session is None or session["endedAt"] is not None or session["holderId"] != claims["sub"]:
        raise unauthorized()
    if session["idleUntil"] <= now or session["expiresAt"] <= now:
        raise unauthorized()
    return str(session["holderId"])


@app.get("/v1/cards/{card_id}/balance")
async def balance(card_id: str, request: Request, holder_id: Annotated[str, Depends(holder)]) -> Balance:
    """The balance of the holder's own card; the type that it returns is its response model."""
    card = await request.app.state.database.cards.find_one(
        {"_id": card_id, "holderId": holder_id}, {"accounts": 1, "medical": 1}
    )
    if card is None:
        raise HTTPException(404)
    old_before = datetime.now(UTC) - OLD_AFTER
    figures = [
        Figure(
            account=item["account"],
            balance_fen=item["balanceFen"],
            display=display(item["balanceFen"]),
            currency="CNY",
            status=card["medical"] if item["account"] == "medical" else item["status"],
            as_of=item["asOf"],
            source=item["source"],
            stale=item["asOf"] < old_before,
        )
        for item in card["accounts"]
    ]
    return Balance(card_id=card_id, as_of=min((f.as_of for f in figures), default=datetime.now(UTC)), items=figures)


def display(fen: int) -> str:
    """123456 fen become 1,234.56."""
    yuan, rest = divmod(abs(fen), 100)
    return f"{'-' if fen < 0 else ''}{yuan:,}.{rest:02d}"
