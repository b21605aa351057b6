"""What people are told of: one table from what happened to the words, the kind of message and when it goes.

True here: every message to a person stands in this table, and who may do without it, and whether it waits for the morning, is
read off its row. What somebody else may have done in a person's name is of kind `security`: it can be neither declined nor
put off. Never here: the words themselves (service/locale), who a person is, or how they are reached (service/contacts.py).

What can be declined (`optional`) is what the person can also look up at any time, or a look that they may waive hearing of. A
decision about somebody, and what others did about their insurance, has to reach them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from service.locale import Locale

Kind = Literal["security", "service", "information"]
OptionalKind = Literal["service", "information"]
# `actor`: the holder, or the guardian who did it for them; `lookedUp`: whom an operator looked up, where the policy of their
# region says so; the others say whose side of a link between guardian and dependant it is.
Hearer = Literal["holder", "actor", "guardian", "dependant", "lookedUp"]

Need = Literal["required", "optional"]
# `awake`: not in the quiet hours of somebody's region.
Hour = Literal["anyHour", "awake"]

# Of these kinds a person may decline what is optional.
OPTIONAL_KINDS: Final[tuple[OptionalKind, ...]] = ("service", "information")


class Topic(StrEnum):
    """What a person can be told of. Those about a card are called as in its history."""

    ACTIVATED = "activated"
    ACTIVATION_REVERSED = "activationReversed"
    TEMPORARY_LOSS_REPORTED = "temporaryLossReported"
    FORMAL_LOSS_REPORTED = "formalLossReported"
    LOSS_CANCELLED = "lossCancelled"
    LOCKED = "locked"
    UNLOCKED = "unlocked"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    BANK_ACTIVATED = "bankActivated"
    PIN_CHANGED = "pinChanged"
    PIN_RESET = "pinReset"
    PIN_LOCKED = "pinLocked"
    NEW_DEVICE = "newDevice"
    SIGNED_IN_BY_PASSWORD = "signedInByPassword"  # noqa: S105  the name of a topic
    REFRESH_TOKEN_REUSED = "refreshTokenReused"  # noqa: S105  the name of a topic
    LOOKED_UP = "lookedUp"
    GUARDIAN_LINKED = "guardianLinked"
    GUARDIAN_ENDED = "guardianEnded"
    DEPENDANT_LINKED = "dependantLinked"
    DEPENDANT_ENDED = "dependantEnded"
    EMAIL_CONFIRMED = "emailConfirmed"
    EMAIL_CHANGED = "emailChanged"
    EMAIL_REMOVED = "emailRemoved"
    CONSENT_GIVEN = "consentGiven"
    CONSENT_WITHDRAWN = "consentWithdrawn"
    EXPORTED = "exported"
    ERASURE_ASKED = "erasureAsked"
    ECARD_APPLIED = "ecardApplied"
    ECARD_PAYMENT_OPENED = "ecardPaymentOpened"
    ECARD_LOCKED = "ecardLocked"
    ECARD_PASSWORD_CHANGED = "ecardPasswordChanged"  # noqa: S105  the name of a topic
    APPLICATION_ACCEPTED = "applicationAccepted"
    CARD_IN_PRODUCTION = "cardInProduction"
    CARD_READY = "cardReady"
    APPLICATION_REJECTED = "applicationRejected"
    INSURANCE_REGISTERED = "insuranceRegistered"
    INSURANCE_SELF_REGISTERED = "insuranceSelfRegistered"
    INSURANCE_SUSPENDED = "insuranceSuspended"
    INSURANCE_ENDED = "insuranceEnded"


@dataclass(frozen=True, slots=True)
class Rule:
    """How people hear of a topic.

    `template` names the words: `messages.<template>` and `subjects.<template>` of the catalogues.
    """

    template: str
    kind: Kind
    hears: Hearer
    need: Need
    hour: Hour

    @property
    def optional(self) -> bool:
        """Whether people may decline it."""
        return self.need == "optional"

    @property
    def waits(self) -> bool:
        """Whether in quiet hours it goes when those are over."""
        return self.hour == "awake"


_T = Topic
# fmt: off
#                                        template                      kind           hears        need        hour
RULES: Final[Mapping[Topic, Rule]] = {
    _T.ACTIVATED:                   Rule("card_activated",             "security",    "actor",     "required", "anyHour"),
    _T.ACTIVATION_REVERSED:         Rule("activation_reversed",        "security",    "holder",    "required", "anyHour"),
    _T.TEMPORARY_LOSS_REPORTED:     Rule("temporary_loss_reported",    "security",    "actor",     "required", "anyHour"),
    _T.FORMAL_LOSS_REPORTED:        Rule("formal_loss_reported",       "security",    "actor",     "required", "anyHour"),
    _T.LOSS_CANCELLED:              Rule("loss_cancelled",             "security",    "actor",     "required", "anyHour"),
    _T.LOCKED:                      Rule("card_locked",                "security",    "actor",     "required", "anyHour"),
    _T.UNLOCKED:                    Rule("card_unlocked",              "security",    "actor",     "required", "anyHour"),
    _T.CANCELLED:                   Rule("card_cancelled",             "security",    "actor",     "required", "anyHour"),
    _T.REPLACED:                    Rule("card_replaced",              "security",    "holder",    "required", "anyHour"),
    _T.BANK_ACTIVATED:              Rule("bank_activated",             "security",    "actor",     "required", "anyHour"),
    _T.PIN_CHANGED:                 Rule("pin_changed",                "security",    "actor",     "required", "anyHour"),
    _T.PIN_RESET:                   Rule("pin_reset",                  "security",    "actor",     "required", "anyHour"),
    _T.PIN_LOCKED:                  Rule("pin_locked",                 "security",    "holder",    "required", "anyHour"),
    _T.NEW_DEVICE:                  Rule("new_device",                 "security",    "holder",    "required", "anyHour"),
    _T.SIGNED_IN_BY_PASSWORD:       Rule("signed_in_by_password",      "security",    "holder",    "required", "anyHour"),
    _T.REFRESH_TOKEN_REUSED:        Rule("session_ended",              "security",    "holder",    "required", "anyHour"),
    _T.LOOKED_UP:                   Rule("looked_up",                  "service",     "lookedUp",  "optional", "awake"),
    _T.GUARDIAN_LINKED:             Rule("guardian_linked",            "security",    "dependant", "required", "anyHour"),
    _T.GUARDIAN_ENDED:              Rule("guardian_ended",             "security",    "dependant", "required", "anyHour"),
    _T.DEPENDANT_LINKED:            Rule("dependant_linked",           "security",    "guardian",  "required", "anyHour"),
    _T.DEPENDANT_ENDED:             Rule("dependant_ended",            "security",    "guardian",  "required", "anyHour"),
    _T.EMAIL_CONFIRMED:             Rule("email_confirmed",            "security",    "holder",    "required", "anyHour"),
    _T.EMAIL_CHANGED:               Rule("email_changed",              "security",    "holder",    "required", "anyHour"),
    _T.EMAIL_REMOVED:               Rule("email_removed",              "security",    "holder",    "required", "anyHour"),
    _T.CONSENT_GIVEN:               Rule("consent_given",              "security",    "holder",    "required", "anyHour"),
    _T.CONSENT_WITHDRAWN:           Rule("consent_withdrawn",          "security",    "holder",    "required", "anyHour"),
    _T.EXPORTED:                    Rule("data_exported",              "security",    "holder",    "required", "anyHour"),
    _T.ERASURE_ASKED:               Rule("erasure_asked",              "security",    "holder",    "required", "anyHour"),
    _T.ECARD_APPLIED:               Rule("ecard_applied",              "security",    "actor",     "required", "anyHour"),
    _T.ECARD_PAYMENT_OPENED:        Rule("ecard_payment_opened",       "security",    "holder",    "required", "anyHour"),
    _T.ECARD_LOCKED:                Rule("ecard_locked",               "security",    "actor",     "required", "anyHour"),
    _T.ECARD_PASSWORD_CHANGED:      Rule("ecard_password_changed",     "security",    "holder",    "required", "anyHour"),
    _T.APPLICATION_ACCEPTED:        Rule("application_accepted",       "information", "holder",    "optional", "awake"),
    _T.CARD_IN_PRODUCTION:          Rule("card_in_production",         "information", "holder",    "optional", "awake"),
    _T.CARD_READY:                  Rule("card_ready",                 "service",     "holder",    "optional", "awake"),
    _T.APPLICATION_REJECTED:        Rule("application_rejected",       "service",     "holder",    "required", "awake"),
    _T.INSURANCE_REGISTERED:        Rule("insurance_registered",       "service",     "holder",    "required", "awake"),
    _T.INSURANCE_SELF_REGISTERED:   Rule("insurance_self_registered",  "security",    "holder",    "required", "anyHour"),
    _T.INSURANCE_SUSPENDED:         Rule("insurance_suspended",        "service",     "holder",    "required", "awake"),
    _T.INSURANCE_ENDED:             Rule("insurance_ended",            "service",     "holder",    "required", "awake"),
}
# fmt: on

# Which regions may put into words of their own. What carries a one-time code is said before anybody's region is known.
WORDED_BY_REGIONS: Final = frozenset(rule.template for rule in RULES.values())


def topic_of(happening: str) -> Topic | None:
    """The topic of what happened to a card; none for what nobody is told of."""
    try:
        return Topic(happening)
    except ValueError:
        return None


Values = Callable[[Locale], Mapping[str, object]]


def no_values(_: Locale) -> Mapping[str, object]:
    """What stands in the places of words that have none."""
    return {}


@dataclass(frozen=True, slots=True)
class Announcement:
    """Something that a person is to hear of.

    `happening` names it for good, also for this hearer: it is told once, however often it is announced. `locale`: the language
    in which it happened, for who has not chosen one. `values`: what stands in the places of the words, in a language; never
    more of a person or card than they need to know which it is.
    """

    happening: str
    topic: Topic
    locale: Locale
    values: Values = no_values
