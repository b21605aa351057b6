"""Email by an SMTP server (RFC 5321), over aiosmtplib.

True here: no letter goes over a connection without TLS unless it was configured so; a letter counts as handed over when the
server has confirmed the whole of it (250 after the final dot), and from the moment its text is on the way a lost connection
means that nobody knows. A server does not tell repeats, so such a letter is not offered again. A connection is used for
several letters, and asked whether it still stands before each. Never here: a header that a text could add a line to, and a
reply's words in a log: servers repeat addresses in them.
"""

import asyncio
import re
import ssl
import time
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from email.utils import formatdate
from typing import Final

import structlog
from aiosmtplib import SMTP, SMTPException, SMTPRecipientRefused, SMTPResponseException

from service.gateways.email import Email
from service.gateways.sending import ANSWER_SECONDS, SendFailed, SendRefused, SendUncertain
from service.gateways.settings import Tls

CONNECT_SECONDS: Final = 5.0
QUIT_SECONDS: Final = 1.0
# Servers end a connection that says nothing, most of them after five minutes.
IDLE_SECONDS: Final = 60.0

_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_REFUSING: Final = range(500, 600)
_REPLYING: Final = range(400, 600)
_MAILBOX_FULL: Final = 552

_log = structlog.get_logger("smtp")


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where letters are handed over. Both `username` and `password` are empty where the server asks for none."""

    host: str
    port: int
    tls: Tls
    username: str
    password: str = field(repr=False)
    context: ssl.SSLContext = field(repr=False)


class SmtpEmail:
    """EmailGateway."""

    deduplicates = False

    def __init__(self, server: SmtpServer, sender: Address) -> None:
        self._server = server
        self._sender = sender
        self._idle: list[tuple[SMTP, float]] = []

    async def send(self, email: Email) -> None:
        """Hand a letter over. Raises SendRefused for an address or a text that the server will never take.

        SendFailed is everything else that was refused or could not be reached: the server's own trouble (4xx), a full
        mailbox, and what is wrong with the configuration, which an operator can mend before the tries are used up.
        SendUncertain is a connection lost, or no answer in time, once the text was on its way.
        """
        letter = self._letter(email)
        step = "connect"
        client: SMTP | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                client = await self._connection()
                step = "mail"
                await client.mail(self._sender.addr_spec)
                step = "rcpt"
                await client.rcpt(email.to)
                step = "data"
                await client.data(letter)
        except SMTPResponseException as reply:
            _log.warning("email_not_taken", step=step, reply=reply.code)
            raise _outcome(step, reply) from None
        except (SMTPException, OSError, TimeoutError) as error:
            _log.warning("email_not_taken", step=step, error=type(error).__name__)
            # A connection in the middle of something is of no more use.
            _close(client)
            raise (SendUncertain if step == "data" else SendFailed) from None
        except asyncio.CancelledError:
            _close(client)
            raise
        finally:
            if client is not None and client.is_connected:
                self._idle.append((client, time.monotonic()))

    async def reachable(self) -> None:
        """Connect and sign in, and send nothing. Raises SendFailed."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                client = await self._connection()
        except (SMTPException, OSError, TimeoutError):
            raise SendFailed from None
        self._idle.append((client, time.monotonic()))

    async def close(self) -> None:
        """End all connections."""
        ending, self._idle = self._idle, []
        await asyncio.gather(*(_quit(client) for client, _ in ending))

    async def _connection(self) -> SMTP:
        """One that stands, signed in."""
        while self._idle:
            client, since = self._idle.pop()
            try:
                if time.monotonic() - since < IDLE_SECONDS:
                    await client.rset(timeout=CONNECT_SECONDS)
                    return client
            except (SMTPException, OSError, TimeoutError):
                # The server has ended it, as servers do.
                _close(client)
            except BaseException:
                _close(client)
                raise
            else:
                _close(client)
        server = self._server
        client = SMTP(
            hostname=server.host,
            port=server.port,
            # Said here, because otherwise the library asks the resolver for this machine's name, and waits for it.
            local_hostname=self._sender.domain,
            username=server.username or None,
            password=server.password or None,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            tls_context=server.context,
            timeout=ANSWER_SECONDS,
        )
        try:
            await client.connect(timeout=CONNECT_SECONDS)
        except BaseException:
            _close(client)
            raise
        return client

    def _letter(self, email: Email) -> bytes:
        if _ADDRESS.fullmatch(email.to) is None:
            raise SendRefused
        letter = EmailMessage(policy=WIRE)
        letter["From"] = self._sender
        letter["To"] = email.to
        # A subject is one line, whatever stands in it.
        letter["Subject"] = " ".join(email.subject.split())
        letter["Date"] = formatdate(usegmt=True)
        letter["Message-ID"] = f"<{email.message_id}@{self._sender.domain}>"
        # Keeps answering machines silent (RFC 3834).
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(email.text, charset="utf-8", cte="base64")
        return letter.as_bytes()


def _outcome(step: str, reply: SMTPResponseException) -> Exception:
    """What a reply that is no yes says of the letter."""
    if reply.code not in _REPLYING:
        # No reply that SMTP knows. What the server made of the text is as unknown as without any.
        return SendUncertain() if step == "data" else SendFailed()
    refused = reply.code in _REFUSING and reply.code != _MAILBOX_FULL
    if isinstance(reply, SMTPRecipientRefused):
        # 5.7.x is about what the sender may do (RFC 3463): a matter of configuration, not of the address.
        return SendRefused() if refused and not reply.message.startswith("5.7.") else SendFailed()
    return SendRefused() if refused and step == "data" else SendFailed()


async def _quit(client: SMTP) -> None:
    try:
        await client.quit(timeout=QUIT_SECONDS)
    except (SMTPException, OSError, TimeoutError):
        _close(client)


def _close(client: SMTP | None) -> None:
    if client is not None:
        client.close()
