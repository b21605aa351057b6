"""A mail server for tests: aiosmtpd on a free port of this machine, with TLS by a certificate that is made for the occasion.

It keeps what it took and can be told to answer otherwise, to be silent, or to break off before or after it took a letter.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

USERNAME = "yika"
PASSWORD = "mail password of a test"
Stage = Literal["MAIL", "RCPT", "DATA"]
# A reply of the server's own, or a way not to give one.
Act = str
CUT_BEFORE = "cut before taking it"
CUT_AFTER = "cut after taking it"
SILENT = "say nothing"


@dataclass
class Taken:
    """A letter as it came: envelope and content."""

    sender: str
    to: list[str]
    raw: bytes

    @property
    def letter(self) -> EmailMessage:
        """Parsed as strictly as the library can."""
        return message_from_bytes(self.raw, policy=policy.SMTP.clone(raise_on_defect=True))

    @property
    def text(self) -> str:
        """What is written in it, with line ends of ours and none at the end."""
        content = self.letter.get_content()
        assert isinstance(content, str)
        return content.replace("\r\n", "\n").rstrip("\n")


@dataclass
class MailServer:
    """The server's side of it: aiosmtpd calls these."""

    taken: list[Taken] = field(default_factory=list)
    acts: dict[Stage, deque[Act]] = field(default_factory=lambda: {"MAIL": deque(), "RCPT": deque(), "DATA": deque()})
    connections: int = 0
    encrypted: list[bool] = field(default_factory=list)
    port: int = 0
    open: list[SMTP] = field(default_factory=list)

    def next(self, stage: Stage, *acts: Act) -> None:
        """What to do at the next times that a stage is reached."""
        self.acts[stage].extend(acts)

    def hang_up(self) -> None:
        """End every connection, as a server does with idle ones."""
        for server in self.open:
            if server.transport is not None:
                server.transport.close()

    async def handle_EHLO(  # noqa: N802  the library's name
        self, server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.connections += server not in self.open
        if server not in self.open:
            self.open.append(server)
        return responses

    async def handle_MAIL(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await self._act("MAIL", server):
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await self._act("RCPT", server):
            return reply
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's name
        if self.acts["DATA"] and self.acts["DATA"][0] == CUT_AFTER:
            self._take(server, envelope)
        if reply := await self._act("DATA", server):
            return reply
        self._take(server, envelope)
        return "250 OK"

    def _take(self, server: SMTP, envelope: Envelope) -> None:
        assert isinstance(envelope.original_content, bytes)
        assert server.transport is not None
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        self.taken.append(Taken(envelope.mail_from or "", list(envelope.rcpt_tos), envelope.original_content))

    async def _act(self, stage: Stage, server: SMTP) -> str:
        act = self.acts[stage].popleft() if self.acts[stage] else ""
        if act in {CUT_BEFORE, CUT_AFTER}:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
            return "421 gone"
        if act == SILENT:
            await asyncio.sleep(60)
        return act


def signs_in(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: Any) -> AuthResult:
    """Whether these are the credentials of the test."""
    assert isinstance(given, LoginPassword)
    known = given.login == USERNAME.encode() and given.password == PASSWORD.encode()
    # Not handled: the library says no by itself.
    return AuthResult(success=known, handled=False)


@asynccontextmanager
async def mail_server(
    tls: Literal["starttls", "tls", "none"], folder: Path, *, auth: bool = False
) -> AsyncIterator[MailServer]:
    """A server that listens as long as this lasts; its certificate is `ca.pem` in the folder."""
    server = MailServer()
    context = _context(folder) if tls != "none" else None

    def protocol() -> SMTP:
        return SMTP(
            server,
            hostname="mail.test",
            tls_context=context if tls == "starttls" else None,
            require_starttls=tls == "starttls",
            auth_required=auth,
            # Over TLS from the first byte the library does not see that there is any.
            auth_require_tls=tls == "starttls",
            authenticator=signs_in if auth else None,
            loop=asyncio.get_running_loop(),
        )

    listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=context if tls == "tls" else None)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        server.hang_up()
        await listening.wait_closed()


def _context(folder: Path) -> ssl.SSLContext:
    """A certificate for localhost that signs itself, and the server's side of TLS with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context
