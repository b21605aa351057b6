"""Identity verification on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.numbers import IdNumber, Mobile, Name, OneTimeCode
from schemas.wire import Body, Instant, View
from service.identity import Applicant, Started


class SmsVerification(Body):
    """Prove who one is by a code sent to the registered mobile: assurance level 2."""

    method: Literal["sms"]
    name: Name
    id_number: IdNumber
    mobile: Mobile

    def applicant(self) -> Applicant:
        return Applicant("sms", self.name, self.id_number.number, self.mobile)


class PasswordVerification(Body):
    """Prove who one is by the query password: assurance level 1, for look-ups only."""

    method: Literal["password"]
    name: Name
    id_number: IdNumber

    def applicant(self) -> Applicant:
        return Applicant("password", self.name, self.id_number.number, None)


class FaceVerification(Body):
    """Prove who one is by showing one's face to a certified provider: assurance level 3."""

    method: Literal["face"]
    name: Name
    id_number: IdNumber

    def applicant(self) -> Applicant:
        return Applicant("face", self.name, self.id_number.number, None)


VerificationStart = Annotated[SmsVerification | PasswordVerification | FaceVerification, Field(discriminator="method")]


class VerificationProof(Body):
    """The proof that the method takes: `code` for sms, `password` for password, nothing for face."""

    code: OneTimeCode | None = None
    password: Annotated[str | None, Field(min_length=1, max_length=128)] = None


class VerificationView(View):
    """A verification under way. The same whether or not such a person exists."""

    verification_id: str
    method: Literal["sms", "password", "face"]
    expires_at: Instant
    resend_at: Instant


class FaceVerificationView(VerificationView):
    """A face verification under way, with the page where the person shows their face."""

    certify_url: str


def verification_view(started: Started) -> VerificationView:
    view = VerificationView(
        verification_id=started.verification_id,
        method=started.method,
        expires_at=started.expires_at,
        resend_at=started.resend_at,
    )
    if started.certify_url is None:
        return view
    return FaceVerificationView(**dict(view), certify_url=started.certify_url)
