"""Where messages to a holder went, as blind indexes: messages know no holder, only a number or an address.

True here: a number that two people share is both people's. Never here: a number or an address in plain.
"""

from service.ids import HolderId
from service.mongo import contacts, holders
from service.mongo.client import Database
from service.vault import Vault


async def addresses_of(database: Database, vault: Vault, holder_id: HolderId) -> list[bytes]:
    """The blind indexes of a holder's mobile and email address; none for who is not there."""
    told: list[str] = []
    for name, field in ((holders.NAME, "mobile"), (contacts.NAME, "email")):
        found = await database.collection(name).find_one({"_id": holder_id}, {field: 1})
        if found is not None and found[field] is not None:
            told.append(vault.open(name, field, holder_id, found[field]))
    return [vault.index("messageTo", to) for to in told if to]
