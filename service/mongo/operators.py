"""Operators and institutions in the database.

True here: an operator and the institution are read anew on every request, side by side with others; a code is used up by one
conditional write; an institution is one document, however many work there. Never here: a username or a name in plain.
"""

from datetime import datetime
from typing import Final

from service.ids import InstitutionId, OperatorId
from service.locale import Bilingual
from service.mongo.client import Database, Document, Duplicate
from service.mongo.reads import Reads
from service.mongo.writes import Writes
from service.operators import Credentials, Institution, Operator
from service.totp import WINDOW
from service.vault import Vault

NAME: Final = "operators"
INSTITUTIONS: Final = "institutions"
# More than can be used before the first of them is out of every window.
_STEPS_KEPT: Final = 16


class MongoOperatorStore:
    """OperatorStore and EnrolmentStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._writes = Writes(self._collection)
        self._institutions = database.collection(INSTITUTIONS)
        self._vault = vault
        self._reads = Reads(self._collection, _itself)
        self._institution_reads = Reads(self._institutions, _institution)

    async def operator(self, operator_id: OperatorId) -> Operator | None:
        document = await self._reads.get(operator_id)
        return await self._operator(document) if document else None

    async def credentials(self, username: str) -> Credentials | None:
        document = await self._collection.find_one({"usernameIndex": self._index(username)})
        operator = await self._operator(document) if document else None
        if document is None or operator is None:
            return None
        return Credentials(operator, document["password"], self._opened(document, "totpSecret"))

    async def use_step(self, credentials: Credentials, step: int) -> bool:
        near = list(range(step, step + 2 * WINDOW + 1))
        return await self._collection.update(
            {
                "_id": credentials.operator.operator_id,
                "password": credentials.password,
                "disabledAt": None,
                "usedSteps": {"$nin": near},
            },
            {"$push": {"usedSteps": {"$each": [step], "$slice": -_STEPS_KEPT}}},
        )

    async def add(self, credentials: Credentials) -> bool:
        try:
            await self._collection.insert(self._document(credentials))
        except Duplicate:
            return False
        return True

    async def renew(self, operator_id: OperatorId, password: str, totp_secret: str) -> None:
        sealed = self._vault.seal(NAME, "totpSecret", operator_id, totp_secret)
        fresh: Document = {"password": password, "totpSecret": sealed, "usedSteps": [], "disabledAt": None}
        await self._collection.update({"_id": operator_id}, {"$set": fresh})

    async def disable(self, operator_id: OperatorId, now: datetime) -> None:
        await self._collection.update({"_id": operator_id, "disabledAt": None}, {"$set": {"disabledAt": now}})

    async def everybody(self, limit: int) -> list[Operator]:
        documents = await self._collection.find({}, sort=[("_id", 1)], limit=limit)
        operators = [await self._operator(document) for document in documents]
        return [operator for operator in operators if operator is not None]

    async def institution(self, institution_id: InstitutionId) -> Institution | None:
        return await self._institution_reads.get(institution_id)

    async def put_institution(self, institution: Institution) -> None:
        await self._institutions.replace(_institution_document(institution))

    async def put(self, credentials: Credentials) -> None:
        """Put an operator who has not signed in yet, for a sandbox."""
        await self._writes.replace(self._document(credentials))

    def _index(self, username: str) -> bytes:
        return self._vault.index("username", username)

    def _opened(self, document: Document, field: str) -> str:
        return self._vault.open(NAME, field, document["_id"], document[field])

    async def _operator(self, document: Document) -> Operator | None:
        """The operator of a document; None when the institution is gone."""
        institution = await self._institution_reads.get(document["institutionId"])
        if institution is None:
            return None
        return Operator(
            operator_id=OperatorId(document["_id"]),
            username=self._opened(document, "username"),
            name=self._opened(document, "name"),
            role=document["role"],
            institution=institution,
            disabled=document["disabledAt"] is not None,
        )

    def _document(self, credentials: Credentials) -> Document:
        """The document of an operator on the first day, sealed."""
        operator = credentials.operator
        sealed = self._vault.sealing(NAME, operator.operator_id)
        return {
            "_id": operator.operator_id,
            "username": sealed("username", operator.username),
            "usernameIndex": self._index(operator.username),
            "name": sealed("name", operator.name),
            "role": operator.role,
            "institutionId": operator.institution.institution_id,
            "password": credentials.password,
            "totpSecret": sealed("totpSecret", credentials.totp_secret),
            "usedSteps": [],
            "disabledAt": None,
        }


def _itself(document: Document) -> Document:
    return document


def _institution(document: Document) -> Institution:
    return Institution(
        institution_id=InstitutionId(document["_id"]),
        names=Bilingual(document["names"]["zh"], document["names"]["en"]),
        kind=document["kind"],
        region_codes=tuple(document["regionCodes"]),
        bank_code=document["bankCode"],
        credit_code=document["creditCode"],
        # Documents of earlier versions do not say; nobody is designated by silence.
        redeems_ecards=document.get("redeemsEcards", False),
    )


def _institution_document(institution: Institution) -> Document:
    return {
        "_id": institution.institution_id,
        "names": {"zh": institution.names.zh, "en": institution.names.en},
        "kind": institution.kind,
        "regionCodes": list(institution.region_codes),
        "bankCode": institution.bank_code,
        "creditCode": institution.credit_code,
        "redeemsEcards": institution.redeems_ecards,
    }
