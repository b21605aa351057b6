"""On what people sign in, in the database: a keyed code, and until when it is familiar.

True here: nothing tells whose it is or what it is; it goes by itself. Never here: anything that a client said of itself.
"""

from datetime import datetime
from typing import Final

from service.mongo.client import Database, Duplicate

NAME: Final = "familiar_devices"


class MongoFamiliarStore:
    """FamiliarStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)

    async def familiar_until(self, device: bytes) -> datetime | None:
        document = await self._collection.find_one({"_id": device})
        until: datetime | None = document["expiresAt"] if document else None
        return until

    async def remember(self, device: bytes, until: datetime) -> None:
        try:
            await self._collection.replace({"_id": device, "expiresAt": until})
        except Duplicate:
            # Another sign-in made it familiar at the same instant.
            return
