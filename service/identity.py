"""Identity verification: a table of methods, each a way to prove who one is.

True here: whoever asks gets the same answer in the same steps, whether such a person exists or not: a person who is not
there gets a verification that cannot be confirmed. A try is counted before it is judged, in one conditional write. A new
code voids the old one. Never here: a code, a password or a mobile in plain storage.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.clock import Clock
from service.errors import Refusal, invalid
from service.gateways.face import FaceGateway
from service.holders import Holder, HolderStore
from service.ids import HolderId, VerificationId, is_id, new_id
from service.limits import VERIFICATIONS_PER_ADDRESS, VERIFICATIONS_PER_IDENTITY, Limits
from service.locale import Locale
from service.notifications import Notifications
from service.one_time_codes import LIFE, MOST_TRIES, RESEND_AFTER, code_notice, new_code, pace_sms
from service.passwords import Passwords
from service.sessions import Grant, Method
from service.sign_ins import SignIns
from service.vault import Vault


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who somebody says they are. `mobile` only for method sms; numbers are normalised."""

    method: Method
    name: str
    id_number: str
    mobile: str | None


@dataclass(frozen=True, slots=True)
class Verification:
    """An attempt to prove who one is. Without a holder it can never succeed, and looks no different."""

    verification_id: VerificationId
    method: Method
    holder_id: HolderId | None
    mobile: str | None
    code: bytes | None
    certificate: str | None
    locale: Locale
    tries: int
    created_at: datetime
    resend_at: datetime
    expires_at: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Started:
    """What the client is told about a verification."""

    verification_id: VerificationId
    method: Method
    expires_at: datetime
    resend_at: datetime
    certify_url: str | None


class VerificationStore(Protocol):
    """Where verifications are kept."""

    async def add(self, verification: Verification) -> None:
        """Keep a new one."""

    async def verification(self, verification_id: VerificationId) -> Verification | None:
        """One by id."""

    async def count_try(self, verification_id: VerificationId, most: int, now: datetime) -> Verification | None:
        """Count a try on one that is unused, unexpired and under its tries; None when it is not."""

    async def renew(
        self, verification_id: VerificationId, code: bytes, now: datetime, resend_at: datetime, expires_at: datetime
    ) -> bool:
        """Replace the code of one that is unused, unexpired and due for it."""

    async def use(self, verification_id: VerificationId, now: datetime) -> bool:
        """Use it up; True for exactly one caller."""


class Identity:
    """Proving who one is, and getting a session for it."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: VerificationStore,
        holders: HolderStore,
        sign_ins: SignIns,
        notifications: Notifications,
        limits: Limits,
        passwords: Passwords,
        face: FaceGateway,
        vault: Vault,
        clock: Clock,
    ) -> None:
        self._store = store
        self._holders = holders
        self._sign_ins = sign_ins
        self._notifications = notifications
        self._limits = limits
        self._passwords = passwords
        self._face = face
        self._vault = vault
        self._clock = clock

    async def start(self, applicant: Applicant, address: str, locale: Locale) -> Started:
        """Begin a verification. Refuses with `rate_limited`; never says whether there is such a person."""
        await self._limits.hit_address(VERIFICATIONS_PER_ADDRESS, address)
        # The mobile first: whoever taps twice within a minute has not used up a verification.
        if applicant.mobile is not None:
            await pace_sms(self._limits, applicant.mobile)
        await self._limits.hit(VERIFICATIONS_PER_IDENTITY, applicant.id_number)
        now = self._clock.now()
        holder = self._recognise(applicant, await self._holders.holder_by_number(applicant.id_number))
        verification_id = VerificationId(new_id("ver"))
        certificate = await self._face.initialize(verification_id) if applicant.method == "face" else None
        code = new_code()
        verification = Verification(
            verification_id=verification_id,
            method=applicant.method,
            holder_id=holder.holder_id if holder else None,
            mobile=applicant.mobile,
            code=self._code_mac(verification_id, applicant.mobile, code),
            certificate=certificate.reference if certificate else None,
            locale=locale,
            tries=0,
            created_at=now,
            resend_at=now + RESEND_AFTER,
            expires_at=now + LIFE,
            used_at=None,
        )
        await self._store.add(verification)
        await self._send(verification, code)
        return _started(verification, certificate.url if certificate else None)

    async def resend(self, verification_id: str) -> Started:
        """A new code, which voids the old one.

        Refuses with `not_found`, `verification_used`, `verification_expired`, `verification_locked`, or `rate_limited`
        before its time.
        """
        verification = self._open(await self._find(verification_id))
        now = self._clock.now()
        if verification.mobile is None:
            raise Refusal("not_found")
        if verification.resend_at > now:
            left = (verification.resend_at - now).total_seconds()
            raise Refusal("rate_limited", retry_after=int(left) + 1)
        await pace_sms(self._limits, verification.mobile)
        code = new_code()
        mac = self._code_mac(verification.verification_id, verification.mobile, code)
        if not await self._store.renew(verification.verification_id, mac, now, now + RESEND_AFTER, now + LIFE):
            raise Refusal("rate_limited", retry_after=int(RESEND_AFTER.total_seconds()))
        renewed = await self._find(verification_id)
        await self._send(renewed, code)
        return _started(renewed, None)

    async def confirm(self, verification_id: str, *, code: str | None, password: str | None, user_agent: str) -> Grant:
        """Judge the proof and open a session; `user_agent` says on what, and is not kept.

        Refuses with `not_found`, `invalid_request` (not the proof this method takes), `verification_used`,
        `verification_expired`, `verification_locked`, or `verification_failed` with `triesLeft`.
        """
        found = await self._find(verification_id)
        _require_proof(found.method, code=code, password=password)
        now = self._clock.now()
        verification = await self._store.count_try(found.verification_id, MOST_TRIES, now)
        if verification is None:
            self._open(await self._find(verification_id))
            raise Refusal("verification_locked")
        if not await self._judge(verification, code or "", password or "") or verification.holder_id is None:
            raise Refusal("verification_failed", {"triesLeft": MOST_TRIES - verification.tries})
        if not await self._store.use(verification.verification_id, now):
            raise Refusal("verification_used")
        return await self._sign_ins.open(verification.holder_id, verification.method, user_agent, verification.locale)

    async def _judge(self, verification: Verification, code: str, password: str) -> bool:
        match verification.method:
            case "sms":
                mac = self._code_mac(verification.verification_id, verification.mobile, code)
                return hmac.compare_digest(mac, verification.code or b"")
            case "password":
                holder = await self._holders.holder(verification.holder_id) if verification.holder_id else None
                return await self._passwords.verify(holder.query_password if holder else None, password)
            case "face":
                return await self._face.passed(verification.certificate or "")

    async def _find(self, verification_id: str) -> Verification:
        known = is_id("ver", verification_id)
        found = await self._store.verification(VerificationId(verification_id)) if known else None
        if found is None:
            raise Refusal("not_found")
        return found

    def _open(self, verification: Verification) -> Verification:
        if verification.used_at is not None:
            raise Refusal("verification_used")
        if verification.expires_at <= self._clock.now():
            raise Refusal("verification_expired")
        if verification.tries >= MOST_TRIES:
            raise Refusal("verification_locked")
        return verification

    def _recognise(self, applicant: Applicant, holder: Holder | None) -> Holder | None:
        """The person, if name and mobile are theirs; compared in the same time for a person who is not there."""
        name, mobile = (holder.name, holder.mobile) if holder else ("", "")
        same_name = hmac.compare_digest(name.encode(), applicant.name.encode())
        same_mobile = applicant.mobile is None or hmac.compare_digest(mobile.encode(), applicant.mobile.encode())
        return holder if holder and same_name and same_mobile else None

    def _code_mac(self, verification_id: VerificationId, mobile: str | None, code: str) -> bytes:
        return self._vault.mac("one-time-code", verification_id, mobile or "", code)

    async def _send(self, verification: Verification, code: str) -> None:
        if verification.mobile is None:
            return
        notice = code_notice(
            code,
            happening=f"{verification.verification_id}:{verification.resend_at.timestamp()}",
            template="verification_code",
            to=verification.mobile,
            locale=verification.locale,
            suppressed=verification.holder_id is None,
            until=verification.expires_at,
        )
        await self._notifications.post(notice)


def _started(verification: Verification, certify_url: str | None) -> Started:
    return Started(
        verification.verification_id,
        verification.method,
        verification.expires_at,
        verification.resend_at,
        certify_url,
    )


def _require_proof(method: Method, *, code: str | None, password: str | None) -> None:
    """The proof must be the one the method takes, and no other."""
    given = {"code": code, "password": password}
    needed = {"sms": "code", "password": "password"}.get(method)
    for field, value in given.items():
        if field == needed and value is None:
            raise invalid(field, "missing")
        if field != needed and value is not None:
            raise invalid(field, "unknown_field")
