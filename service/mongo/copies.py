"""A holder's documents in plain, for their own copy.

True here: what is sealed is opened, and what is a mark, a hash or somebody else's is left out, by the rows of holdings.py, as
is what a message with a one-time code says;
bytes that no row opens never leave. Other people's ids become "another", operators' "operator". Never here: a look without an
entry in the log; that is written before anybody asks here (service/exports.py).
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from service.clock import show
from service.exports import Collected
from service.ids import HolderId, is_id
from service.mongo.client import Database, Document
from service.mongo.holdings import HOLDINGS, Holding
from service.mongo.marks import addresses_of
from service.vault import Vault

# Of each kind. A life's worth of cards, applications and relations is less.
MOST: Final = 500
# Opening and spelling out so many takes about a millisecond; then others get their turn.
_AT_ONCE: Final = 20


class MongoCopyStore:
    """CopyStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def collect(self, holder_id: HolderId) -> Collected:
        """Everything but the access log, which has pages of its own."""
        records: dict[str, list[Mapping[str, object]]] = {}
        partial: list[str] = []
        marks = await addresses_of(self._database, self._vault, holder_id)
        for holding in HOLDINGS:
            if holding.word in {"", "accessLog"}:
                continue
            found = await self._database.collection(holding.collection).find(
                holding.of(holder_id, marks), sort=[("_id", -1)], limit=MOST + 1
            )
            if len(found) > MOST:
                partial.append(holding.word)
            records[holding.word] = await self._told(holding, found[:MOST], holder_id)
        return Collected(records, tuple(partial))

    async def _told(self, holding: Holding, found: Sequence[Document], holder_id: HolderId) -> list[Mapping[str, object]]:
        told: list[Mapping[str, object]] = []
        for number, document in enumerate(found, start=1):
            told.append(_plain(self._opened(holding, document), "", holding, holder_id))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return told

    def _opened(self, holding: Holding, document: Document) -> Document:
        for name, secret in holding.withheld.items():
            if document.get(secret) is not None:
                document[name] = None
        for path, name in holding.sealed.items():
            *way, last = path.split(".")
            inner: Any = document
            for step in way:
                inner = inner.get(step) or {}
            if inner.get(last) is None:
                continue
            text = self._vault.open(holding.collection, name, document["_id"], inner[last])
            inner[last] = orjson.loads(text) if path in holding.documents else text
        return document


def _plain(document: Mapping[str, Any], above: str, holding: Holding, own: HolderId) -> dict[str, object]:
    told: dict[str, object] = {}
    for name, value in document.items():
        path = f"{above}{name}"
        if name in holding.hidden or path in holding.hidden or isinstance(value, bytes):
            continue
        told[holding.called.get(path, name)] = _value(value, path, holding, own)
    return told


def _value(value: object, path: str, holding: Holding, own: HolderId) -> object:
    if isinstance(value, datetime):
        return show(value)
    if isinstance(value, Mapping):
        return _plain(value, f"{path}.", holding, own)
    if isinstance(value, list):
        return [_value(item, path, holding, own) for item in value if not isinstance(item, bytes)]
    if isinstance(value, str) and is_id("hld", value) and value != own:
        return "another"
    if isinstance(value, str) and is_id("op", value):
        return "operator"
    return value
