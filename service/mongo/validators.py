"""Shapes that the server holds documents to.

True here: a member that came later is optional, so that a document of an older version stays good; no other member is let in.
Never here: a rule about values that only the code can judge.
"""

from typing import Any, Final

from service.announcements import OPTIONAL_KINDS, Topic
from service.applications import ApplicationStage
from service.cards import BankStatus, MedicalStatus, PinState, Stage, Status
from service.consents import Purpose
from service.gateways.upstream import QUESTIONS
from service.insurance import INSURANCES
from service.locale import LOCALES
from service.production_batches import CHECKS


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object with these members and no others; the optional ones came later, and older documents lack them."""
    return {
        "bsonType": "object",
        "required": sorted(required),
        "additionalProperties": False,
        "properties": required | (optional or {}),
    }


def _one_of(words: type[Any]) -> dict[str, Any]:
    return {"enum": [str(word) for word in words]}


_TEXT: Final = {"bsonType": "string", "minLength": 1, "maxLength": 200}
_TEXT_OR_NOT: Final = {"bsonType": ["string", "null"], "minLength": 1, "maxLength": 200}
_BYTES: Final = {"bsonType": "binData"}
_BYTES_OR_NOT: Final = {"bsonType": ["binData", "null"]}
_TIME: Final = {"bsonType": "date"}
_TIME_OR_NOT: Final = {"bsonType": ["date", "null"]}
_COUNT: Final = {"bsonType": ["int", "long"], "minimum": 0}
_DAY: Final = {"bsonType": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
_FEN: Final = {"bsonType": ["int", "long"]}

CARD_SCHEMA: Final = _object(
    {
        "_id": {"bsonType": "string", "pattern": "^card_[a-z2-7]{24}$"},
        "holderId": {"bsonType": "string", "pattern": "^hld_[a-z2-7]{24}$"},
        "regionCode": {"bsonType": "string", "pattern": "^[0-9]{6}$"},
        "number": _BYTES,
        "numberIndex": _BYTES,
        "identificationCode": _BYTES,
        "idNumber": _BYTES,
        "holderName": _BYTES,
        "generation": {"bsonType": "int", "minimum": 1, "maximum": 9},
        "bank": _object({"code": _TEXT, "account": {"bsonType": ["binData", "null"]}, "status": _one_of(BankStatus)}),
        "stage": _one_of(Stage),
        "testBatch": {"bsonType": "bool"},
        "status": _one_of(Status),
        "temporaryLossUntil": _TIME_OR_NOT,
        "activation": {
            "oneOf": [
                {"bsonType": "null"},
                _object({"id": _TEXT, "at": _TIME, "channel": _TEXT, "by": _TEXT, "request": _BYTES}, {"guardian": _TEXT}),
            ]
        },
        "medical": _one_of(MedicalStatus),
        "pin": _object({"state": _one_of(PinState), "wrongTries": _COUNT}, {"hash": _TEXT_OR_NOT}),
        "accounts": {
            "bsonType": "array",
            "maxItems": 8,
            "items": _object({"account": _TEXT, "balanceFen": _FEN, "status": _TEXT, "asOf": _TIME, "source": _TEXT}),
        },
        "expiresOn": {"bsonType": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        "version": _COUNT,
        "history": {
            "bsonType": "array",
            "items": _object(
                {
                    "id": _TEXT,
                    "at": _TIME,
                    "happening": _TEXT,
                    "from": _one_of(Status),
                    "to": _one_of(Status),
                    "channel": _TEXT,
                    "by": _TEXT,
                    "reason": {"bsonType": ["string", "null"]},
                },
                {"request": _BYTES_OR_NOT, "guardian": _TEXT, "approvedBy": _TEXT},
            ),
        },
        "outbox": {
            "bsonType": "array",
            "items": _object({"id": _TEXT, "at": _TIME, "happening": _TEXT, "tell": _TEXT, "locale": _TEXT}),
        },
    },
    {"lockReason": _TEXT_OR_NOT},
)

RELATION_SCHEMA: Final = _object(
    {
        "_id": {"bsonType": "string", "pattern": "^reg_[a-z2-7]{24}$"},
        "holderId": {"bsonType": "string", "pattern": "^hld_[a-z2-7]{24}$"},
        "employerId": {"bsonType": ["string", "null"], "pattern": "^ins_[a-z2-7]{24}$"},
        "number": _COUNT,
        "regionCode": {"bsonType": "string", "pattern": "^[0-9]{6}$"},
        "covers": {
            "bsonType": "array",
            "minItems": 1,
            "maxItems": 5,
            "items": _object({"code": {"enum": [*INSURANCES]}, "since": _DAY}),
        },
        "since": _DAY,
        "registeredAt": _TIME,
        "overdueDays": _COUNT,
        "by": _TEXT,
        "request": _BYTES,
        "ending": {"oneOf": [{"bsonType": "null"}, _object({"on": _DAY, "at": _TIME, "by": _TEXT, "reason": _TEXT})]},
        "version": _COUNT,
        "news": {"bsonType": "array", "items": _object({"id": _TEXT, "name": _TEXT, "locale": _TEXT})},
    }
)

APPLICATION_SCHEMA: Final = _object(
    {
        "_id": {"bsonType": "string", "pattern": "^app_[a-z2-7]{24}$"},
        "holderId": {"bsonType": "string", "pattern": "^hld_[a-z2-7]{24}$"},
        "kind": _TEXT,
        "regionCode": {"bsonType": "string", "pattern": "^[0-9]{6}$"},
        "bankCode": _TEXT,
        "confirmedBy": _TEXT_OR_NOT,
        "reason": _TEXT_OR_NOT,
        "replaces": _TEXT_OR_NOT,
        "locale": _TEXT,
        "createdAt": _TIME,
        "stage": _one_of(ApplicationStage),
        "stages": {
            "bsonType": "array",
            "minItems": 1,
            "items": _object({"stage": _one_of(ApplicationStage), "at": _TIME, "by": _TEXT, "role": _TEXT, "request": _BYTES}),
        },
        "due": {"bsonType": "array", "items": _object({"id": _TEXT, "tell": _TEXT_OR_NOT, "discard": _TEXT_OR_NOT})},
        "collectedBy": _TEXT_OR_NOT,
        "rejection": _TEXT_OR_NOT,
        "version": _COUNT,
    },
    {
        "running": {"enum": [True]},
        "underTest": {"enum": [True]},
        "batchId": {"bsonType": "string", "pattern": "^bat_[a-z2-7]{24}$"},
        "made": _object(
            {
                "cardId": {"bsonType": "string", "pattern": "^card_[a-z2-7]{24}$"},
                "number": _BYTES,
                "identificationCode": _BYTES,
                "identificationCodeIndex": _BYTES,
                "bankAccount": _BYTES,
                "bankAccountIndex": _BYTES,
            }
        ),
    },
)

BATCH_SCHEMA: Final = _object(
    {
        "_id": {"bsonType": "string", "pattern": "^bat_[a-z2-7]{24}$"},
        "supplier": _TEXT,
        "product": _TEXT,
        "regionCode": {"bsonType": "string", "pattern": "^[0-9]{6}$"},
        "isTest": {"bsonType": "bool"},
        "state": _TEXT,
        "checks": _object({check: {"bsonType": ["bool", "null"]} for check in CHECKS}),
        "applicationIds": {"bsonType": "array", "items": _TEXT},
        "createdAt": _TIME,
        "by": _TEXT,
        "role": _TEXT,
        "request": _BYTES,
        "locale": _TEXT,
        "version": _COUNT,
    },
    {"due": {"enum": [True]}},
)

ECARD_SCHEMA: Final = _object(
    {
        "_id": {"bsonType": "string", "pattern": "^ecd_[a-z2-7]{24}$"},
        "holderId": {"bsonType": "string", "pattern": "^hld_[a-z2-7]{24}$"},
        "cardId": {"bsonType": "string", "pattern": "^card_[a-z2-7]{24}$"},
        "level": {"enum": [1, 2]},
        "password": _TEXT_OR_NOT,
        "wrongTries": _COUNT,
        "version": _COUNT,
        "appliedAt": _TIME,
        "changedAt": _TIME,
        "requests": {"bsonType": "array", "items": _BYTES},
        "news": {
            "bsonType": "array",
            "items": _object({"id": _TEXT, "name": _TEXT, "at": _TIME, "tell": _TEXT, "locale": _TEXT}),
        },
    }
)

CONSENT_SCHEMA: Final = _object(
    {
        "_id": {"bsonType": "string", "pattern": "^cns_[a-z2-7]{24}$"},
        "holderId": {"bsonType": "string", "pattern": "^hld_[a-z2-7]{24}$"},
        "purpose": _one_of(Purpose),
        "turns": {
            "bsonType": "array",
            "minItems": 1,
            "items": _object(
                {
                    "turn": {"enum": ["given", "withdrawn"]},
                    "at": _TIME,
                    "channel": _TEXT,
                    "wording": {"bsonType": ["int", "long"], "minimum": 1},
                    "request": _BYTES,
                }
            ),
        },
    },
    {"news": {"bsonType": "array", "items": _object({"id": _TEXT, "turn": _TEXT, "wording": _COUNT, "locale": _TEXT})}},
)

CONTACTS_SCHEMA: Final = _object(
    {
        "_id": {"bsonType": "string", "pattern": "^hld_[a-z2-7]{24}$"},
        "email": _BYTES_OR_NOT,
        "confirmedAt": {"bsonType": ["date", "null"]},
        "pending": {
            "oneOf": [
                {"bsonType": "null"},
                _object({"email": _BYTES, "code": _BYTES, "tries": _COUNT, "expiresAt": _TIME}),
            ]
        },
        "smsDeclined": {"bsonType": "array", "items": {"enum": [*OPTIONAL_KINDS]}},
        "emailDeclined": {"bsonType": "array", "items": {"enum": [*OPTIONAL_KINDS]}},
        "locale": {"enum": [*LOCALES, None]},
        "version": _COUNT,
        "changedBy": _BYTES_OR_NOT,
    },
    {
        "news": {
            "bsonType": "array",
            "items": _object({"id": _TEXT, "topic": _one_of(Topic), "locale": _TEXT, "instead": _BYTES_OR_NOT}),
        },
        "requests": {"bsonType": "array", "items": _BYTES},
    },
)

LINK_SCHEMA: Final = _object(
    {
        "_id": _BYTES,
        "lane": {"bsonType": "int", "minimum": 0, "maximum": 255},
        "seq": {"bsonType": ["int", "long"], "minimum": 1},
        "previous": _BYTES,
        "hash": _BYTES,
        "subject": _BYTES,
        "at": _TIME,
        "action": _TEXT,
        "by": _TEXT,
        "channel": _TEXT,
        "operatorId": _TEXT_OR_NOT,
    }
)
CHECKPOINT_SCHEMA: Final = _object(
    {
        "_id": {"bsonType": ["int", "long"], "minimum": 1},
        "at": _TIME,
        "signed": {"bsonType": "string", "minLength": 1},
        "links": _COUNT,
    }
)

LAST_KNOWN_SCHEMA: Final = _object(
    {
        "_id": {"bsonType": "string", "pattern": "^lkn_[a-z2-7]{24}$"},
        "holderId": {"bsonType": "string", "pattern": "^hld_[a-z2-7]{24}$"},
        "question": {"enum": [*QUESTIONS]},
        "asOf": _TIME,
        "keptAt": _TIME,
        "expiresAt": _TIME,
        "document": _BYTES,
    }
)
