"""Where a holder's data lies: one row for each kind of document that is about a person.

True here: the copy that a holder gets, their erasure, and the table in docs/consents.md are read off these rows, so none of
them can forget what another knows; a test walks the database and fails for a document of a person that no row speaks of.
Never here: a document that is found by a plain number; it is its holder's id that names it, or a blind index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from service.ids import HolderId

# deleted: the documents go. emptied: some fields of theirs go, the rest stays without saying who it was. kept: they stay, for
# a law says so. chained: the ledger's sequencer deletes them when the chain holds the erasure.
Fate = Literal["deleted", "emptied", "kept", "chained"]

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_REQUESTS: Final = frozenset({"request", "requests", "linkedBy", "endedBy", "by", "operatorId", "news", "outbox", "due"})


@dataclass(frozen=True, slots=True)
class Holding:
    """One kind of document.

    `word`: what the holder's copy calls it, empty where it says nothing of its own; `whose`: the field that names the holder;
    `addressed`: one that names nobody is theirs if it went to their number or address; `sealed`: paths of sealed fields, with
    the name each was sealed under; `documents`: those of them that are JSON; `hidden`: what the copy leaves out, being a mark,
    a hash, or somebody else's; `withheld`: what the copy says null of, with the field that has it do so while it has a value;
    `called`: names on the wire where they differ; `emptied`: paths that an erasure empties; `why`: why something of it stays.
    """

    collection: str
    word: str
    whose: str
    fate: Fate = "deleted"
    addressed: bool = False
    sealed: Mapping[str, str] = field(default_factory=lambda: _NONE)
    documents: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    withheld: Mapping[str, str] = field(default_factory=lambda: _NONE)
    called: Mapping[str, str] = field(default_factory=lambda: _NONE)
    emptied: tuple[str, ...] = ()
    why: str = ""

    def of(self, holder_id: HolderId, addresses: Sequence[bytes]) -> dict[str, Any]:
        """What finds a holder's documents; `addresses`: blind indexes of their number and address."""
        if not self.addressed:
            return {self.whose: holder_id}
        return {"$or": [{self.whose: holder_id}, {self.whose: {"$exists": False}, "toIndex": {"$in": list(addresses)}}]}


def _sealed(*paths: str) -> Mapping[str, str]:
    """Sealed under their own names."""
    return MappingProxyType({path: path for path in paths})


def _but(*paths: str) -> frozenset[str]:
    return _REQUESTS | frozenset(paths)


# The first goes first and the person last: until then it can be found out whose the rest is.
HOLDINGS: Final[tuple[Holding, ...]] = (
    Holding("sessions", "sessions", "holderId", hidden=_but("generation", "role"), called={"_id": "sessionId"}),
    Holding(
        "verifications",
        "verifications",
        "holderId",
        sealed=_sealed("mobile"),
        hidden=_but("code", "certificate"),
        called={"_id": "verificationId"},
    ),
    # Answers that show numbers in plain, kept for a day for who asks again. What they say is in the rest of the copy.
    Holding("idempotency", "", "holderId"),
    Holding("ecard_codes", "ecardCodes", "holderId", hidden=_but("code", "known", "ecardVersion", "askedBy", "claimedBy")),
    Holding("ecards", "ecards", "holderId", hidden=_but("password", "version"), called={"_id": "ecardId"}),
    Holding("dependants", "dependants", "guardianId", sealed=_sealed("until"), hidden=_but("seat", "version")),
    Holding("dependants", "guardians", "holderId", sealed=_sealed("until"), hidden=_but("seat", "version")),
    Holding("consents", "consents", "holderId", called={"_id": "consentId"}),
    Holding("visits", "visits", "holderId", called={"_id": "visitId"}, hidden=_but("guardian")),
    Holding(
        "approvals",
        "approvals",
        "holderId",
        fate="emptied",
        sealed={"reason": "reason", "decided.note": "note"},
        hidden=_but("askedBy.name", "askedBy.operatorId", "askedBy.regionCodes", "decided.by", "decided.request", "version"),
        called={"_id": "approvalId"},
        emptied=("reason", "decided.note"),
        why="that two operators decided, and which; for the supervision of operators",
    ),
    Holding(
        "applications",
        "applications",
        "holderId",
        sealed=_sealed("made.number", "made.identificationCode", "made.bankAccount"),
        hidden=_but("made.identificationCodeIndex", "made.bankAccountIndex", "version"),
        called={"_id": "applicationId"},
    ),
    Holding(
        "last_known",
        "lookedUp",
        "holderId",
        sealed=_sealed("document"),
        documents=frozenset({"document"}),
        hidden=_but("_id"),
    ),
    Holding(
        "messages",
        "messages",
        "holderId",
        addressed=True,
        sealed=_sealed("to", "text", "subject"),
        hidden=_but("holderId", "code", "values", "toIndex", "queue", "fence", "suppressed", "attempts", "dueAt", "cutOff"),
        # Who reads the copy has not shown that they have the mobile or the mailbox to which a code went.
        withheld={"text": "code", "subject": "code"},
        called={"_id": "messageId", "createdAt": "postedAt"},
    ),
    Holding(
        "contacts",
        "contacts",
        "_id",
        sealed={"email": "email", "pending.email": "pending.email"},
        hidden=_but("changedBy", "pending.code", "version"),
        called={"_id": "holderId"},
    ),
    Holding(
        "cards",
        "cards",
        "holderId",
        sealed=_sealed("number", "identificationCode", "idNumber", "holderName", "bank.account"),
        hidden=_but("numberIndex", "pin.hash", "history.id", "version"),
        called={"_id": "cardId", "number": "cardNumber", "stage": "productionStage", "medical": "medicalAccount"},
    ),
    Holding(
        "insurance",
        "insuranceRelations",
        "holderId",
        fate="kept",
        hidden=_but("version", "number"),
        called={"_id": "registrationId"},
        why="records of what somebody is entitled to, which the law has kept for good; without a name or a number",
    ),
    Holding(
        "accesses",
        "accessLog",
        "holderId",
        fate="chained",
        why="in the ledger stays when and by which operator something was done, and no longer about whom",
    ),
    Holding(
        "ledger_subjects",
        "",
        "_id",
        fate="chained",
        why="a secret under which the chain names them, until it is deleted with the log",
    ),
    Holding(
        "holders",
        "identity",
        "_id",
        sealed=_sealed("name", "idNumber", "mobile", "householdRegister"),
        hidden=_but("queryPassword", "idNumberIndex", "householdIndex"),
        called={"_id": "holderId"},
    ),
)
MESSAGES: Final = next(holding for holding in HOLDINGS if holding.addressed)
# Collections in which nothing is about a person as such, or only under a keyed mark that passes within days.
IMPERSONAL: Final[Mapping[str, str]] = {
    "limits": "tries, under keyed marks that pass within a day",
    "lockouts": "wrong sign-ins of operators, under keyed marks",
    "hotline_codes": "codes of calls, under keyed marks that pass within minutes",
    "imports": "how far imports are",
    "migrations": "the steps that the database has had",
    "keyring": "a mark of the keyring",
    "operators": "operators",
    "institutions": "institutions",
    "production_batches": "batches of cards, by applications",
    "familiar_devices": "on what people sign in, under keyed marks",
    "ledger": "the chain, under secrets that go with the person",
    "ledger_checkpoints": "signed heads of the chain",
    "ledger_state": "who sequences",
    "erasures": "that and when somebody was erased",
}
