"""Refusals: every way the service says no.

True here: a refusal has a stable code, the code has a kind, and neither knows HTTP; the one table that turns a kind into
a status is in handlers/problems.py. Never here: what the caller sent. A refusal carries facts about our side only, so that
it can be shown, logged and stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Code = Literal[
    "already_insured",
    "application_exists",
    "application_not_allowed",
    "approval_decided",
    "approval_expired",
    "assurance_too_low",
    "batch_closed",
    "card_details_mismatch",
    "card_not_activatable",
    "card_number_taken",
    "channel_not_allowed",
    "consent_required",
    "dependant_not_linkable",
    "ecard_code_expired",
    "ecard_code_invalid",
    "ecard_code_used",
    "ecard_not_allowed",
    "ecard_password_incorrect",
    "ecard_password_locked",
    "ecard_unusable",
    "erasure_not_allowed",
    "forbidden",
    "guardian_required",
    "household_mismatch",
    "idempotency_in_flight",
    "idempotency_key_missing",
    "idempotency_key_reused",
    "internal",
    "invalid_request",
    "malformed_json",
    "malformed_request",
    "method_not_allowed",
    "not_found",
    "outcome_unknown",
    "overloaded",
    "payload_too_large",
    "pin_change_required",
    "pin_incorrect",
    "pin_locked",
    "rate_limited",
    "region_not_interconnected",
    "request_timeout",
    "sign_in_failed",
    "stage_not_allowed",
    "token_expired",
    "token_invalid",
    "token_revoked",
    "too_many_attempts",
    "transition_not_allowed",
    "unauthenticated",
    "unavailable",
    "under_working_age",
    "unsupported_media_type",
    "verification_expired",
    "verification_failed",
    "verification_locked",
    "verification_used",
]


class Kind(StrEnum):
    """What sort of no it is. The status of an answer follows from this and from nothing else."""

    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "notFound"
    METHOD = "method"
    TIMEOUT = "timeout"
    CONFLICT = "conflict"
    GONE = "gone"
    TOO_LARGE = "tooLarge"
    MEDIA_TYPE = "mediaType"
    INVALID = "invalid"
    LIMITED = "limited"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"


KINDS: Final[Mapping[Code, Kind]] = {
    "already_insured": Kind.CONFLICT,
    "application_exists": Kind.CONFLICT,
    "application_not_allowed": Kind.CONFLICT,
    "approval_decided": Kind.CONFLICT,
    "approval_expired": Kind.CONFLICT,
    "assurance_too_low": Kind.FORBIDDEN,
    "batch_closed": Kind.CONFLICT,
    "card_details_mismatch": Kind.INVALID,
    "card_not_activatable": Kind.CONFLICT,
    "card_number_taken": Kind.CONFLICT,
    "channel_not_allowed": Kind.FORBIDDEN,
    "consent_required": Kind.FORBIDDEN,
    "dependant_not_linkable": Kind.CONFLICT,
    "ecard_code_expired": Kind.GONE,
    "ecard_code_invalid": Kind.INVALID,
    "ecard_code_used": Kind.CONFLICT,
    "ecard_not_allowed": Kind.CONFLICT,
    "ecard_password_incorrect": Kind.FORBIDDEN,
    "ecard_password_locked": Kind.FORBIDDEN,
    "ecard_unusable": Kind.CONFLICT,
    "erasure_not_allowed": Kind.CONFLICT,
    "forbidden": Kind.FORBIDDEN,
    "guardian_required": Kind.FORBIDDEN,
    "household_mismatch": Kind.INVALID,
    "idempotency_in_flight": Kind.CONFLICT,
    "idempotency_key_missing": Kind.MALFORMED,
    "idempotency_key_reused": Kind.INVALID,
    "internal": Kind.INTERNAL,
    "invalid_request": Kind.INVALID,
    "malformed_json": Kind.MALFORMED,
    "malformed_request": Kind.MALFORMED,
    "method_not_allowed": Kind.METHOD,
    "not_found": Kind.NOT_FOUND,
    "outcome_unknown": Kind.UNAVAILABLE,
    "overloaded": Kind.UNAVAILABLE,
    "payload_too_large": Kind.TOO_LARGE,
    "pin_change_required": Kind.FORBIDDEN,
    "pin_incorrect": Kind.FORBIDDEN,
    "pin_locked": Kind.FORBIDDEN,
    "rate_limited": Kind.LIMITED,
    "region_not_interconnected": Kind.FORBIDDEN,
    "request_timeout": Kind.TIMEOUT,
    "sign_in_failed": Kind.FORBIDDEN,
    "stage_not_allowed": Kind.CONFLICT,
    "token_expired": Kind.UNAUTHENTICATED,
    "token_invalid": Kind.UNAUTHENTICATED,
    "token_revoked": Kind.UNAUTHENTICATED,
    "too_many_attempts": Kind.LIMITED,
    "transition_not_allowed": Kind.CONFLICT,
    "unauthenticated": Kind.UNAUTHENTICATED,
    "unavailable": Kind.UNAVAILABLE,
    "under_working_age": Kind.CONFLICT,
    "unsupported_media_type": Kind.MEDIA_TYPE,
    "verification_expired": Kind.GONE,
    "verification_failed": Kind.FORBIDDEN,
    "verification_locked": Kind.FORBIDDEN,
    "verification_used": Kind.CONFLICT,
}

# Nothing happened, or nobody knows yet: the same request may be tried again and must then be judged anew.
TRANSIENT: Final = frozenset({Kind.LIMITED, Kind.UNAVAILABLE, Kind.INTERNAL})


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with the input: the field's wire name ("" for the whole) and a stable code, never the value."""

    field: str
    code: str
    facts: Mapping[str, object]


class Refusal(Exception):  # noqa: N818  it is not an error of ours: a use case says no
    """A use case says no.

    facts: extra members of the problem, by wire name (for example {"reason": "locked"}); retry_after: whole seconds.
    """

    def __init__(
        self,
        code: Code,
        facts: Mapping[str, object] | None = None,
        *,
        errors: Sequence[FieldError] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(code)
        self.code: Final[Code] = code
        self.facts: Final[Mapping[str, object]] = facts or {}
        self.errors: Final = tuple(errors)
        self.retry_after: Final = retry_after

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later, so that this answer must not be kept as the answer."""
        return self.kind in TRANSIENT or self.code == "assurance_too_low"


def invalid(field: str, code: str, **facts: object) -> Refusal:
    """`invalid_request` about one field."""
    return Refusal("invalid_request", errors=(FieldError(field, code, facts),))
