"""Examples: one value for each word on the wire, and whole examples put together from the schemas.

True here: a word means the same everywhere, so its value is written once; where a shape means something of its own by it, the
entry names the shape (`RegionView.code`). An example is made of the schema it stands beside, so that neither can go ahead of
the other. Every person and number is made up. Never here: a value for a whole body.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from handlers.problems import problem
from service.errors import KINDS, Code, FieldError, Refusal
from service.ids import derived_id
from service.pages import VERIFY_PAGE

Json = dict[str, Any]

_CARD_ID: Final = derived_id("card", "example")
_APPLICATION_ID: Final = derived_id("app", "example")
_ACTIVATION_ID: Final = derived_id("act", "example")
_SESSION_ID: Final = derived_id("ses", "example")
_NOW: Final = "2026-11-22T16:00:00.000+08:00"
_LATER: Final = "2026-11-22T16:05:00.000+08:00"
_RECEIPT: Final = (
    "eyJhbGciOiJFUzI1NiIsImtpZCI6IjVhOWMiLCJ0eXAiOiJyZWNlaXB0K2p3dCJ9.eyJpc3MiOiJodHRwczovL3lpa2EuZXhhbXBsZSJ9.c2ln"
)
_PROBLEM_ID: Final = "8f14e45fceea167a5a36dedd4bea2543"

WORDS: Final[Mapping[str, Any]] = {
    # Ids and codes
    "cardId": _CARD_ID,
    "activationId": _ACTIVATION_ID,
    "sessionId": _SESSION_ID,
    "verificationId": derived_id("ver", "example"),
    "regionCode": "990100",
    "RegionView.code": "990100",
    "BankView.code": "B901",
    "nextCursor": "Y2FyZF9leGFtcGxl",
    "hasMore": True,
    "RegionPage.nextCursor": None,
    "RegionPage.hasMore": False,
    # People and numbers
    "name": "张伟",
    "idNumber": "11010519491231002X",
    "mobile": "13800138000",
    "currentPin": "910021",
    "newPin": "274913",
    "password": "a-query-password",
    "nameMasked": "张*",
    "holderNameMasked": "张*",
    "idNumberMasked": "110105********002X",
    "mobileMasked": "138****8000",
    "cardNumber": "A12345674",
    "cardNumberMasked": "A*****674",
    "accountMasked": "***************0128",
    "identificationCode": "990100D1560000050123456789ABCDEF",
    "regionName": "云栖市",
    "RegionView.name": "云栖市",
    "BankView.name": "云汀银行",
    # Times
    "activatedAt": _NOW,
    "createdAt": _NOW,
    "refreshedAt": _NOW,
    "asOf": _NOW,
    "at": _NOW,
    "sentAt": _NOW,
    "expiresAt": _LATER,
    "resendAt": "2026-11-22T16:01:00.000+08:00",
    "expiresOn": "2036-11-22",
    # Sessions
    "level": 2,
    "method": "sms",
    "FaceVerificationView.method": "face",
    "certifyUrl": "https://face.example/certify/8f14e45f",
    "VerificationProof.code": "123456",
    "accessToken": "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJobGRfZXhhbXBsZSJ9.c2ln",
    "expiresIn": 300,
    "refreshToken": f"rt_{_SESSION_ID}.1.c2VjcmV0",
    "refreshExpiresIn": 3600,
    "current": True,
    "JwksView.keys": [
        {
            "kty": "EC",
            "crv": "P-256",
            "kid": "5a9c",
            "use": "sig",
            "alg": "ES256",
            # The point of the example in RFC 7517, A.1.
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        }
    ],
    # Cards
    "generation": 3,
    "productionStage": "delivered",
    "CardView.status": "active",
    "active": True,
    "channel": "app",
    "BankFunctionView.status": "active",
    "medicalAccount": "normal",
    "state": "set",
    "triesLeft": 5,
    "version": 2,
    "action": "activate",
    "allowed": False,
    "ActionView.reason": "alreadyActivated",
    "account": "medical",
    "balanceFen": 123456,
    "display": "1,234.56",
    "currency": "CNY",
    "FigureView.status": "normal",
    "source": "medicalInsuranceBureau",
    "event": "activated",
    "HistoryEntryView.from": "sealed",
    "HistoryEntryView.to": "active",
    "HistoryEntryView.reason": None,
    "message": "您的社会保障卡已激活",
    "usable": False,
    "canActivate": True,
    "BlockerView.code": "sealed",
    "BlockerView.axis": "status",
    "BlockerView.message": "此卡尚未激活，请先激活。",
    "NextStepView.channels": ["bank", "hospital", "bureau"],
    "NextStepView.materials": ["card", "idCard"],
    "receipt": _RECEIPT,
    "valid": True,
    "ReceiptView.claims": {
        "iss": "https://yika.example",
        "iat": 1795334400,
        "jti": _ACTIVATION_ID,
        "event": "card.activated",
        "cardId": _CARD_ID,
        "regionCode": "990100",
        "channel": "app",
        "at": _NOW,
    },
    # The log of looks
    "AccessView.action": "reveal",
    "by": "self",
    "AccessView.reason": "idNumber,mobile",
    "Reveal.fields": ["name", "mobile"],
    "RevealedView.idNumber": None,
    # Dependants
    "dependantId": derived_id("dep", "example"),
    "until": "2034-05-01",
    # Pages
    "pageId": "social-security-card",
    "PageView.title": "社会保障卡",
    "CrumbView.pageId": "home",
    "CrumbView.title": "首页",
    "PageView.requires": "session",
    "SectionView.title": "服务",
    "entryId": "activate",
    "EntryView.title": "激活社会保障卡",
    "subtitle": "填写三个号码",
    "icon": "check",
    "page": "activate",
    "PageView.form": None,
    "PanelView.status": "active",
    "interconnected": True,
    # Regions
    "RegionRulesView.version": 2,
    "PublicationsView.functionsAndUses": "在云栖市，社会保障卡用于证明持卡人身份、就医购药结算和领取待遇。",
    "PublicationsView.eligibilityConditionsAndProcedure": "在云栖市参加社会保险的人都可以申领。",
    "PublicationsView.scopePeriodAndMethod": "在云栖市及与其互通的地区使用，有效期 10 年，印在卡面。",
    "PublicationsView.lossDamageAndReplacement": "临时挂失 7 天有效，到期自动恢复，也可提前取消。",
    "PublicationsView.rightsAndDuties": "持卡人有权查询自己的信息和用卡记录，应当妥善保管卡片和密码。",
    "temporaryLossDays": 7,
    "formalLossCancellable": True,
    "guardianAge": 16,
    "cardValidityYears": 10,
    "CardNumberRuleView.length": 9,
    "checkCharacterEnforced": True,
    "ServicePinRuleView.length": 6,
    "maxTries": 5,
    "GenerationView.number": 2,
    "issued": False,
    "announcedOn": "2025-11-10",
    "cutOffOn": "2026-06-30",
    "retired": True,
    "ActionChannelsView.action": "reportTemporaryLoss",
    "ActionChannelsView.channels": ["app", "web", "bank", "bureau", "hotline"],
    "RegionRulesView.informationConfirmation": ["employer", "school", "subDistrict"],
    "RegionBankView.code": "B901",
    "RegionBankView.name": "云汀银行",
    "ActivationGuideView.categoryName": "成年人",
    "GuideChannelView.channel": "bank",
    "GuideChannelView.name": "卡面所示银行的网点",
    "GuideChannelView.functions": ["social", "bank"],
    "MaterialView.name": "社会保障卡",
    # Insurance
    "registrationId": derived_id("reg", "example"),
    "hiredOn": "2026-11-01",
    "since": "2026-11-01",
    "registeredAt": _NOW,
    "row": 1,
    "overdueDays": 0,
    "RegistrationRowView.code": None,
    "RegistrationRowView.message": None,
    "endReason": None,
    "RegistrationView.endedOn": None,
    "InsuredView.employer": "云栖市虚构单位",
    "InsuredView.source": "insuranceRegister",
    # Applications and batches
    "applicationId": _APPLICATION_ID,
    "newCardId": None,
    "bank": "B901",
    "CardView.bank": {"code": "B901", "name": "云汀银行", "accountMasked": "***************0128"},
    "photoConfirmed": True,
    "collectAt": None,
    "rejection": None,
    "ApplicationView.kind": "replacement",
    "ApplicationView.stage": "accepted",
    "ApplicationView.reason": "damaged",
    "StaffApplicationView.kind": "replacement",
    "StaffApplicationView.stage": "accepted",
    "StaffApplicationView.reason": "damaged",
    "StageView.stage": "accepted",
    "bankAccount": "9999012345678901231",
    "NextStage.stage": "receivedByCity",
    "FaceChecks.name": True,
    "FaceChecks.idNumber": True,
    "FaceChecks.photo": True,
    "FaceChecks.bank": True,
    "batchId": derived_id("bat", "example"),
    "underTest": False,
    "next": "bankPreOpened",
    "supplier": "card-works",
    "product": "gen3-a",
    "BatchStart.applicationIds": [_APPLICATION_ID],
    "BatchView.applicationIds": [_APPLICATION_ID],
    "isTest": True,
    "BatchView.state": "underTest",
    "passed": True,
    "compliance": True,
    "security": None,
    "interRegion": None,
    "ApplicationRowView.result": "accepted",
    "ApplicationRowView.code": None,
    "ApplicationRowView.message": None,
    # Operators
    "StaffSignIn.username": "bank-own.6470",
    "StaffSignIn.password": "a-password-of-sixteen",
    "totp": "123456",
    "operatorId": derived_id("op", "example"),
    "institutionId": derived_id("ins", "example"),
    "WorkplaceView.name": "虚构银行云栖支行",
    "WorkplaceView.regionCodes": ["990100"],
    "bankCode": "B901",
    # Cards at a counter, and the second person
    "StaffLossReport.materials": ["idCard"],
    "Presented.materials": ["card", "idCard"],
    "CardLock.materials": ["card", "idCard"],
    "CardUnlock.materials": ["card", "idCard"],
    "CardCancel.materials": ["card", "idCard"],
    "ActivationReversal.reason": "激活时核验的不是本人",
    "Verdict.reason": "已电话核实",
    "pin": "910021",
    "approvalId": derived_id("apr", "example"),
    "ApprovalView.state": "pending",
    "ApprovalView.reason": "emigration",
    "askedAt": _NOW,
    "ApprovalView.expiresAt": "2026-11-23T16:00:00.000+08:00",
    "institutionName": "云栖市虚构人社局",
    "PartyView.role": "bureauClerk",
    "decidedAt": None,
    "decidedBy": None,
    "decisionReason": None,
    "carriedOutAt": None,
    "failure": None,
    # Counters
    "LookUp.reason": "enquiry",
    "ticket": "T20261122-0042",
    "AccessView.ticket": None,
    "CounterActivation.functions": ["social", "bank"],
    "CounterActivation.materials": ["card", "idCard"],
    "visitId": derived_id("vis", "example"),
    # The sandbox
    "key": "sealed",
    "PersonaView.dependants": [],
    "PersonaView.role": None,
    "PersonaView.username": None,
    "PersonaView.password": None,
    "PersonaView.totpSecret": None,
    "PersonaView.institution": None,
    "queryPassword": "a-query-password",
    "servicePin": "910021",
    "householdRegister": "990012345",
    "note": "一张已领取、尚未激活的卡。",
    "MessageView.to": "13800138000",
    "MessageView.code": "123456",
    "MessageView.channel": "sms",
    "template": "verification_code",
    "text": "【智慧人社】您的验证码是 123456，5 分钟内有效。",
    "now": _LATER,
    "offsetSeconds": 300,
    "personas": 28,
    "FaultView.gateway": "sms",
    "fault": "unavailable",
    "times": 1,
    "FaceView.message": "人脸核验通过，请返回并确认。",
}


class NoExampleError(LookupError):
    """A word that has no value yet; the text is where it stands."""


def example_of(schema: Json, schemas: Mapping[str, Json], owner: str = "", word: str = "") -> Any:  # noqa: ANN401  it is JSON
    """An example of a schema, `owner` being the shape and `word` the member it belongs to.

    Raises NoExampleError where neither WORDS nor the schema knows a value.
    """
    own = f"{owner}.{word}"
    if own in WORDS:
        return WORDS[own]
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return example_of(schemas[name], schemas, name)
    if schema.get("type") == "object":
        return _of_object(schema, schemas, owner, word)
    if schema.get("type") == "array":
        return [example_of(schema["items"], schemas, owner)]
    branches = [branch for name in ("anyOf", "oneOf") for branch in schema.get(name, ()) if branch.get("type") != "null"]
    return example_of(branches[0], schemas, owner, word) if branches else _of_word(schema, owner, word)


def _of_object(schema: Json, schemas: Mapping[str, Json], owner: str, word: str) -> Json:
    """The members that must be there, and those that have a value of this shape's own."""
    members = schema.get("properties", {})
    if not members and schema.get("additionalProperties") not in {None, False}:
        raise NoExampleError(f"{owner}.{word}")
    wanted = {*schema.get("required", ()), *(name for name in members if f"{owner}.{name}" in WORDS)}
    return {name: example_of(member, schemas, owner, name) for name, member in members.items() if name in wanted}


def _of_word(schema: Json, owner: str, word: str) -> Any:  # noqa: ANN401  it is JSON
    for known in ([schema["const"]] if "const" in schema else [], schema.get("enum", [])):
        if known:
            return known[0]
    if word in WORDS:
        return WORDS[word]
    if not schema.get("examples"):
        raise NoExampleError(f"{owner}.{word}")
    return schema["examples"][0]


def examples_of(schema: Json, schemas: Mapping[str, Json]) -> Json:
    """Named examples, one for each variant; none at all where a word is missing, which `openapi_problems` then reports."""
    try:
        return dict(_variants(schema, schemas))
    except NoExampleError:
        return {}


def _variants(schema: Json, schemas: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for variant in schema.get("oneOf") or schema.get("anyOf") or [schema]:
        name = variant.get("$ref", "/example").rsplit("/", 1)[-1]
        described = schemas.get(name, {}).get("description", "As it is sent.")
        yield name, {"summary": described.partition("\n")[0], "value": example_of(variant, schemas)}


_FACTS: Final[Mapping[Code, Json]] = {
    "application_exists": {"applicationId": _APPLICATION_ID},
    "application_not_allowed": {"reason": "hasCard"},
    "assurance_too_low": {"requiredAssurance": 2},
    "batch_closed": {"reason": "released"},
    "card_not_activatable": {"reason": "formallyLost"},
    "channel_not_allowed": {"channels": ["bank", "bureau"]},
    "dependant_not_linkable": {"reason": "grownUp"},
    "pin_incorrect": {"triesLeft": 4},
    "region_not_interconnected": {"regionCode": "990500", "channels": ["bank", "bureau"]},
    "stage_not_allowed": {"stage": "accepted", "next": "bankPreOpened"},
    "token_expired": {"verifyPage": VERIFY_PAGE},
    "token_invalid": {"verifyPage": VERIFY_PAGE},
    "token_revoked": {"verifyPage": VERIFY_PAGE},
    "transition_not_allowed": {"from": "formallyLost", "allowed": ["cancelLoss", "replace"], "reason": "formallyLost"},
    "unauthenticated": {"verifyPage": VERIFY_PAGE},
    "verification_failed": {"triesLeft": 4},
}
_RETRY_AFTER: Final[Mapping[Code, int]] = {
    "idempotency_in_flight": 12,
    "outcome_unknown": 2,
    "rate_limited": 38,
    "too_many_attempts": 21600,
    "unavailable": 2,
}


def problem_examples() -> Json:
    """Every problem, made by the code that makes the real ones."""
    return {code: {"summary": told["title"], "value": told} for code in sorted(KINDS) for told in [_problem(code)]}


def _problem(code: Code) -> Json:
    errors = [FieldError("idNumber", "resident_id_check_character", {})] if code == "invalid_request" else []
    refusal = Refusal(code, _FACTS.get(code), errors=errors, retry_after=_RETRY_AFTER.get(code))
    return dict(orjson.loads(problem(refusal, "en", _PROBLEM_ID).body))
