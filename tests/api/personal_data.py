"""What a database knows of a person, looked for as it lies there: sealed values are opened, blind indexes are made anew."""

from collections.abc import Iterator, Mapping
from typing import Any

from service.keyring import Keys
from service.vault import Vault, VaultError

# The names under which something of a person is sealed somewhere, and those of blind indexes.
SEALED = (
    *("name", "idNumber", "mobile", "householdRegister", "until", "to", "text", "subject", "code", "values", "answer"),
    *("number", "identificationCode", "holderName", "bank.account", "made.number", "made.identificationCode"),
    *("made.bankAccount", "reason", "note", "document", "email", "pending.email", "news.instead"),
)
INDEXED = ("idNumber", "mobile", "messageTo", "householdRegister", "cardNumber", "identificationCode", "bankAccount")
# What was sent lies with the provider, which a sandbox plays; the rest of a sandbox knows nobody.
OUTSIDE = ("sandbox_messages",)


def vault_of(keyring_path: Any) -> Vault:
    """The vault that the application has."""
    keys = Keys(keyring_path)
    return Vault(lambda: keys.ring)


def values_of(value: object) -> Iterator[object]:
    """Every value in a document, its own id included."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from values_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from values_of(inner)
    else:
        yield value


def opened(vault: Vault, collection: str, document: Mapping[str, Any], value: bytes) -> str | None:
    """A sealed value in plain; nothing for bytes that are no sealed value."""
    own = document["_id"]
    for field in SEALED:
        try:
            return vault.open(collection, field, own.hex() if isinstance(own, bytes) else str(own), value)
        except (VaultError, ValueError):
            continue
    return None


def mentions(vault: Vault, collection: str, document: Mapping[str, Any], secrets: Mapping[str, str]) -> set[str]:
    """Which of a person's secrets a document tells: in plain, sealed, or by a blind index."""
    told: set[str] = set()
    marks = {vault.index(field, secret): name for name, secret in secrets.items() for field in INDEXED}
    for value in values_of(document):
        if isinstance(value, bytes):
            text = opened(vault, collection, document, value) or ""
            if value in marks:
                told.add(f"{marks[value]} as a blind index")
        else:
            text = str(value)
        told |= {name for name, secret in secrets.items() if secret in text}
    return told


def everything(raw: Any, vault: Vault, secrets: Mapping[str, str]) -> dict[str, set[str]]:
    """By collection, what is told there of a person."""
    found: dict[str, set[str]] = {}
    for collection in sorted(raw.list_collection_names()):
        if collection.startswith("system.") or collection in OUTSIDE:
            continue
        for document in raw[collection].find():
            if told := mentions(vault, collection, document, secrets):
                found.setdefault(collection, set()).update(told)
    return found
