"""Taking operators on: accounts, and the institutions they work for, as an administrator makes them.

True here: a password that was made up, and an authenticator's secret, are handed over once and kept only as what they prove;
who is disabled, or gets new ones, is signed out everywhere. Never here: a role at a place where nobody has it, or an
institution for a region that is not served.
"""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Protocol

from pydantic import ConfigDict, Field, TypeAdapter, with_config

from service.actors import StaffRole
from service.clock import Clock
from service.ids import InstitutionId, OperatorId, derived_id, new_id
from service.locale import Bilingual
from service.numbers import InvalidNumber, parse_credit_code
from service.operators import DESIGNABLE, WORKPLACES, Credentials, Institution, InstitutionKind, Operator, as_username
from service.passwords import Passwords
from service.regions import Regions
from service.sessions import SessionStore
from service.strict_toml import FaultyFileError, Objection, read, shape
from service.totp import new_secret

SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 128
MOST_LISTED: Final = 10_000
_LONGEST_NAME: Final = 64
_USERNAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{2,63}")
# Without the letters and digits that are taken for one another. Twenty of them are 97 bits.
_SIGNS: Final = "abcdefghjkmnpqrstuvwxyz23456789"


class EnrolmentError(Exception):
    """It cannot be done; the text says why, for the administrator."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An operator with what is handed over once: the password as it is typed, and the authenticator's secret."""

    operator: Operator
    password: str
    totp_secret: str


class EnrolmentStore(Protocol):
    """Where operators are made and unmade."""

    async def credentials(self, username: str) -> Credentials | None:
        """One by username, through the blind index."""

    async def add(self, credentials: Credentials) -> bool:
        """Keep a new one; False when the username is somebody's."""

    async def renew(self, operator_id: OperatorId, password: str, totp_secret: str) -> None:
        """Other credentials, and no longer disabled."""

    async def disable(self, operator_id: OperatorId, now: datetime) -> None:
        """Refuse this operator from now on; disabling again changes nothing."""

    async def everybody(self, limit: int) -> list[Operator]:
        """At most so many, in order of id."""

    async def institution(self, institution_id: InstitutionId) -> Institution | None:
        """An institution by id."""

    async def put_institution(self, institution: Institution) -> None:
        """Keep an institution, in the place of the one with its id."""


class Enrolments:
    """What an administrator does."""

    def __init__(self, *, store: EnrolmentStore, sessions: SessionStore, passwords: Passwords, clock: Clock) -> None:
        self._store = store
        self._sessions = sessions
        self._passwords = passwords
        self._clock = clock

    async def add(
        self, *, username: str, name: str, role: StaffRole, institution: Institution, password: str | None
    ) -> Enrolled:
        """Take somebody on; without a password one is made up. The institution is kept as it is given here.

        Raises EnrolmentError: a username that is none or taken, a weak password, a role that the institution has not.
        """
        operator = Operator(
            operator_id=OperatorId(new_id("op")),
            username=_username(username),
            name=_name(name),
            role=role,
            institution=_workplace(institution, role),
            disabled=False,
        )
        enrolled = Enrolled(operator, _password(password), new_secret())
        await self._store.put_institution(institution)
        kept = Credentials(operator, await self._passwords.hash(enrolled.password), enrolled.totp_secret)
        if not await self._store.add(kept):
            raise EnrolmentError("that username is taken")
        return enrolled

    async def reset(self, username: str, password: str | None) -> Enrolled:
        """A new password and authenticator, and signed out everywhere; somebody who was disabled is back. EnrolmentError."""
        operator = await self._known(username)
        enrolled = Enrolled(replace(operator, disabled=False), _password(password), new_secret())
        await self._store.renew(operator.operator_id, await self._passwords.hash(enrolled.password), enrolled.totp_secret)
        await self._sessions.end_all_of(operator.operator_id, self._clock.now(), "credentialsReset")
        return enrolled

    async def disable(self, username: str) -> Operator:
        """Refuse an operator from the next request on. Raises EnrolmentError for a username that is nobody's."""
        operator = await self._known(username)
        now = self._clock.now()
        await self._store.disable(operator.operator_id, now)
        await self._sessions.end_all_of(operator.operator_id, now, "operatorDisabled")
        return operator

    async def everybody(self) -> list[Operator]:
        """Everybody there is, up to MOST_LISTED."""
        return await self._store.everybody(MOST_LISTED)

    async def institution(self, institution_id: str) -> Institution:
        """An institution that is here already. Raises EnrolmentError."""
        found = await self._store.institution(InstitutionId(institution_id))
        if found is None:
            raise EnrolmentError("there is no such institution")
        return found

    async def _known(self, username: str) -> Operator:
        found = await self._store.credentials(as_username(username))
        if found is None:
            raise EnrolmentError("there is no such operator")
        return found.operator


def _username(text: str) -> str:
    username = as_username(text)
    if _USERNAME.fullmatch(username) is None:
        raise EnrolmentError("a username has 3 to 64 letters a to z, digits, dots, dashes and underscores")
    return username


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not 0 < len(name) <= _LONGEST_NAME:
        raise EnrolmentError(f"a name has 1 to {_LONGEST_NAME} characters")
    return name


def _workplace(institution: Institution, role: StaffRole) -> Institution:
    if WORKPLACES[role] != institution.kind:
        raise EnrolmentError(f"the role {role} is one of a {WORKPLACES[role]}, and that institution is a {institution.kind}")
    return institution


def _password(given: str | None) -> str:
    if given is None:
        return "-".join("".join(secrets.choice(_SIGNS) for _ in range(5)) for _ in range(4))
    if not SHORTEST_PASSWORD <= len(given) <= LONGEST_PASSWORD:
        raise EnrolmentError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    return given


_strict = with_config(ConfigDict(extra="forbid", strict=True))


@_strict
@dataclass(frozen=True, slots=True)
class _InstitutionFile:
    kind: InstitutionKind
    names: Bilingual
    regions: Annotated[tuple[str, ...], Field(min_length=1)]
    credit_code: str
    bank: str | None = None
    redeems_ecards: bool = False


_FILE: Final = TypeAdapter(_InstitutionFile)


def read_institution(path: Path, regions: Regions) -> Institution:
    """The institution that a TOML file describes; the same credit code is the same institution.

    Raises FaultyFileError with file, field and reason.
    """
    told = shape(_FILE, read(path), path.name)
    faults = [Objection(path.name, field, reason) for field, reason in _faults(told, regions)]
    if faults:
        raise FaultyFileError(faults)
    return Institution(
        institution_id=InstitutionId(derived_id("ins", parse_credit_code(told.credit_code))),
        names=told.names,
        kind=told.kind,
        region_codes=told.regions,
        bank_code=told.bank,
        credit_code=parse_credit_code(told.credit_code),
        redeems_ecards=told.redeems_ecards,
    )


def _faults(told: _InstitutionFile, regions: Regions) -> Iterator[tuple[str, str]]:
    """What is wrong with it, field by field."""
    served = [regions.by_code[code] for code in told.regions if code in regions.by_code]
    if len(served) < len(told.regions):
        yield "regions", "names a region that is not served here"
    if len(set(told.regions)) < len(told.regions):
        yield "regions", "names a region twice"
    try:
        parse_credit_code(told.credit_code)
    except InvalidNumber as fault:
        yield "credit_code", f"is no unified social credit code ({fault.code})"
    if told.redeems_ecards and told.kind not in DESIGNABLE:
        yield "redeems_ecards", f"is for a {' or a '.join(sorted(DESIGNABLE))}, and for nobody else"
    if (told.bank is not None) is not (told.kind == "bank"):
        yield "bank", "is the code of a bank, for a bank and for nobody else"
    elif told.bank is not None and not any(bank.code == told.bank for region in served for bank in region.banks):
        yield "bank", "issues cards in none of these regions"
