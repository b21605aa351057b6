"""The keyring as the database remembers it: a mark that only the keyring which sealed the data can make.

True here: with the wrong keyring nobody would be found and everything new would be sealed past reading; so a process that
holds it never becomes ready. Never here: a key.
"""

from typing import Final

from service.mongo.client import Database, Duplicate
from service.vault import Vault

NAME: Final = "keyring"
_MARK: Final = "mark"


async def is_production(database: Database) -> bool:
    """Whether a production process was ever ready on this database. A sandbox never is; it must not touch such a one."""
    return await database.collection(NAME).find_one({"_id": _MARK}) is not None


async def keyring_of(database: Database, vault: Vault) -> bool | None:
    """Whether this vault's keyring is the one of the data; None for a database that has no mark yet. Leaves none."""
    found = await database.collection(NAME).find_one({"_id": _MARK})
    return None if found is None else bytes(found["mark"]) == vault.mac("keyring-mark")


async def holds_the_keyring_of(database: Database, vault: Vault) -> bool:
    """Whether this vault's keyring is the one of the data; the first to ask of an empty database leaves its mark."""
    collection = database.collection(NAME)
    mark = vault.mac("keyring-mark")
    found = await collection.find_one({"_id": _MARK})
    if found is None:
        try:
            await collection.insert({"_id": _MARK, "mark": mark})
        except Duplicate:
            return await holds_the_keyring_of(database, vault)
        return True
    return bytes(found["mark"]) == mark
