"""Operators: the people behind the counters, and how they sign in.

True here: an operator signs in with a password and a code of an authenticator, and is looked at on every request, so one who
was disabled is refused from the next on; whoever cannot sign in is told nothing about why, in the same time. A code is good
once. Never here: what an operator may do to a card; that stands beside its transitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, Protocol

from service.actors import COUNTERS, Actor, StaffRole
from service.clock import Clock
from service.errors import Refusal
from service.ids import InstitutionId, OperatorId
from service.limits import Limit, Limits
from service.locale import Bilingual
from service.lockouts import STAFF_SIGN_IN, Lockouts
from service.passwords import Passwords
from service.sessions import Grant, Session, Sessions
from service.totp import matching_step, new_secret

InstitutionKind = Literal["bank", "hospital", "bureau", "hotline", "employer", "producer"]

WORKPLACES: Final[Mapping[StaffRole, InstitutionKind]] = {
    "bankTeller": "bank",
    "hospitalClerk": "hospital",
    "bureauClerk": "bureau",
    "bureauSupervisor": "bureau",
    "hotlineAgent": "hotline",
    "employer": "employer",
    "production": "producer",
}
# Where somebody can be shown an e-card: only these can be designated to redeem its codes.
DESIGNABLE: Final[frozenset[InstitutionKind]] = frozenset({"bank", "hospital"})
# A whole house may come from one address in the morning; whoever tries names in a row is stopped all the same.
SIGN_INS_PER_ADDRESS: Final = Limit("staff/address", 100, timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Institution:
    """Where operators work. `region_codes`: for whom it works; `bank_code` for a bank only; `credit_code`: GB 32100.

    `redeems_ecards`: whether it is designated to redeem codes of e-cards; nobody is who was not said to be.
    """

    institution_id: InstitutionId
    names: Bilingual
    kind: InstitutionKind
    region_codes: tuple[str, ...]
    bank_code: str | None
    credit_code: str
    redeems_ecards: bool = False


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody behind a counter, or at an employer's or a producer's desk."""

    operator_id: OperatorId
    username: str
    name: str
    role: StaffRole
    institution: Institution
    disabled: bool

    def actor(self) -> Actor:
        """In what capacity and through which channel this operator acts."""
        where = self.institution
        return Actor(
            actor_id=self.operator_id,
            role=self.role,
            channel=COUNTERS.get(self.role),
            region_codes=frozenset(where.region_codes),
            institution_id=where.institution_id,
            bank_code=where.bank_code,
        )


@dataclass(frozen=True, slots=True)
class Credentials:
    """An operator with what proves that it is they: an argon2id hash, and the authenticator's secret in base32."""

    operator: Operator
    password: str
    totp_secret: str


class OperatorStore(Protocol):
    """Where operators are kept."""

    async def operator(self, operator_id: OperatorId) -> Operator | None:
        """One by id, as strongly read as the last acknowledged write before the call."""

    async def credentials(self, username: str) -> Credentials | None:
        """One by username, through the blind index."""

    async def use_step(self, credentials: Credentials, step: int) -> bool:
        """Use up a code: True for exactly one caller, while neither it nor a later one near it was used.

        False also when the operator was disabled, or has another password, since the credentials were read.
        """


class Operators:
    """Signing in, and being there."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: OperatorStore,
        sessions: Sessions,
        limits: Limits,
        lockouts: Lockouts,
        passwords: Passwords,
        clock: Clock,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._limits = limits
        self._lockouts = lockouts
        self._passwords = passwords
        self._clock = clock
        self._nobodys_secret = new_secret()

    async def sign_in(self, username: str, password: str, code: str, address: str) -> tuple[Operator, Grant]:
        """Judge password and code, and open a session.

        Refuses with `rate_limited` (the address), `too_many_attempts` (this username, whether or not it is anybody's), or
        `sign_in_failed`, which never says why: unknown, disabled, wrong password, wrong or used code.
        """
        await self._limits.hit_address(SIGN_INS_PER_ADDRESS, address)
        named = as_username(username)
        await self._lockouts.count(STAFF_SIGN_IN, named)
        found = await self._store.credentials(named)
        # Both are judged whatever came of the one before, so that no answer is quicker than another.
        known = await self._passwords.verify(found.password if found else None, password)
        # An authenticator goes by the world's time; who turns a sandbox's clock may go by that. Elsewhere they are one.
        moments = (self._clock.outside(), self._clock.now())
        step = matching_step(found.totp_secret if found else self._nobodys_secret, code, moments)
        if found is None or not known or step is None or found.operator.disabled:
            raise Refusal("sign_in_failed")
        if not await self._store.use_step(found, step):
            raise Refusal("sign_in_failed")
        await self._lockouts.forget(STAFF_SIGN_IN, named)
        operator = found.operator
        return operator, await self._sessions.open_staff(operator.operator_id, operator.role)

    async def on_duty(self, session: Session) -> Operator:
        """The operator of a live session. Refuses with `token_revoked` when they are disabled or gone."""
        operator = await self._store.operator(OperatorId(session.subject))
        if operator is None or operator.disabled or operator.role != session.role:
            raise Refusal("token_revoked")
        return operator


def as_username(text: str) -> str:
    """A username as it is kept: people type capitals and spaces around it."""
    return text.strip().lower()
