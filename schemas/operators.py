"""Operators on the wire: how they sign in, and who they are."""

from typing import Annotated

from pydantic import Field

from schemas.numbers import OneTimeCode
from schemas.sessions import TokensView, tokens_view
from schemas.wire import Body, View
from service.actors import StaffRole
from service.locale import Locale
from service.masking import mask_name
from service.operators import Institution, InstitutionKind, Operator
from service.sessions import Grant


class StaffSignIn(Body):
    """What an operator knows, and the code that their authenticator shows now."""

    username: Annotated[str, Field(min_length=1, max_length=128)]
    password: Annotated[str, Field(min_length=1, max_length=128)]
    totp: OneTimeCode


class WorkplaceView(View):
    """Where an operator works. `regionCodes`: for which regions; `bankCode` is null but for a bank.

    `redeemsEcards`: whether it is designated to redeem codes of e-cards.
    """

    institution_id: str
    name: str
    kind: InstitutionKind
    region_codes: list[str]
    bank_code: str | None
    redeems_ecards: bool


class OperatorView(View):
    """An operator, the name masked."""

    operator_id: str
    name_masked: str
    role: StaffRole
    institution: WorkplaceView


class StaffTokensView(TokensView):
    """Tokens for an operator's session, and who that is; lives are in seconds."""

    operator: OperatorView


def _workplace_view(institution: Institution, locale: Locale) -> WorkplaceView:
    return WorkplaceView(
        institution_id=institution.institution_id,
        name=institution.names.read_in(locale),
        kind=institution.kind,
        region_codes=list(institution.region_codes),
        bank_code=institution.bank_code,
        redeems_ecards=institution.redeems_ecards,
    )


def operator_view(operator: Operator, locale: Locale) -> OperatorView:
    return OperatorView(
        operator_id=operator.operator_id,
        name_masked=mask_name(operator.name),
        role=operator.role,
        institution=_workplace_view(operator.institution, locale),
    )


def staff_tokens_view(operator: Operator, grant: Grant, locale: Locale) -> StaffTokensView:
    return StaffTokensView(**dict(tokens_view(grant)), operator=operator_view(operator, locale))
