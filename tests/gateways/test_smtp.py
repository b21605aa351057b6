"""Email against a real SMTP server."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from email.headerregistry import Address
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.typing import EventDict
from twins.mail_server import CUT_AFTER, CUT_BEFORE, PASSWORD, SILENT, USERNAME, MailServer, mail_server

from service.gateways import smtp
from service.gateways.email import Email
from service.gateways.sending import SendFailed, SendRefused, SendUncertain
from service.gateways.smtp import SmtpEmail, SmtpServer

LETTER = Email(
    "msg_abc",
    "zhang.wei@example.com",
    "card_activated",
    "您的社会保障卡已激活",
    "【智慧人社】您的社会保障卡已激活。\n.\n..点",
    None,
)
SENDER = Address("智慧人社", addr_spec="no-reply@hrss.example")
Tls = Literal["starttls", "tls", "none"]


def _gateway(server: MailServer, folder: Path, tls: Tls = "none", **changes: Any) -> SmtpEmail:
    authority = folder / "ca.pem"
    context = ssl.create_default_context(cafile=authority) if authority.exists() else ssl.create_default_context()
    where = SmtpServer(host="127.0.0.1", port=server.port, tls=tls, username="", password="", context=context)
    return SmtpEmail(replace(where, **changes), SENDER)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[MailServer]:
    async with mail_server("none", tmp_path) as running:
        yield running


@pytest.fixture
async def gateway(server: MailServer, tmp_path: Path) -> AsyncIterator[SmtpEmail]:
    made = _gateway(server, tmp_path)
    yield made
    await made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for an answer for half a second instead of fifteen."""
    monkeypatch.setattr(smtp, "ANSWER_SECONDS", 0.5)


async def test_a_letter_arrives_as_it_was_written(gateway: SmtpEmail, server: MailServer) -> None:
    await gateway.send(LETTER)
    (taken,) = server.taken
    assert (taken.sender, taken.to) == ("no-reply@hrss.example", ["zhang.wei@example.com"])
    letter = taken.letter
    assert letter["Subject"] == LETTER.subject
    assert str(letter["From"]) == "智慧人社 <no-reply@hrss.example>"
    assert letter["To"] == LETTER.to
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter.get_content_type() == "text/plain"
    assert taken.text == LETTER.text
    assert parsedate_to_datetime(letter["Date"]).tzinfo is not None
    # Nothing but ASCII is on the way, so it passes through servers that know nothing else.
    assert taken.raw.isascii()


async def test_a_letter_has_the_same_message_id_over_all_tries(gateway: SmtpEmail, server: MailServer) -> None:
    server.next("DATA", "451 later")
    with pytest.raises(SendFailed):
        await gateway.send(LETTER)
    await gateway.send(LETTER)
    await gateway.send(replace(LETTER, message_id="msg_other"))
    assert [taken.letter["Message-ID"] for taken in server.taken] == ["<msg_abc@hrss.example>", "<msg_other@hrss.example>"]


@pytest.mark.parametrize("subject", ["Hello\r\nBcc: all@example.com", "Hello\n\nbody", "Hello\r\n\r\n.\r\nMAIL FROM:<a@b>"])
async def test_a_subject_never_becomes_a_header_of_its_own(subject: str, gateway: SmtpEmail, server: MailServer) -> None:
    await gateway.send(replace(LETTER, subject=subject))
    (taken,) = server.taken
    assert taken.to == [LETTER.to]
    assert taken.letter["Bcc"] is None
    assert taken.letter["Subject"] == " ".join(subject.split())
    assert taken.text == LETTER.text


@pytest.mark.parametrize(
    "to",
    [
        "a@example.com\r\nRCPT TO:<b@example.com>",
        "a@example.com>\r\nDATA",
        "a@example.com, b@example.com",
        "<a@example.com>",
        "a b@example.com",
        "张@example.com",
        "nobody",
        "",
        "a@",
        "@example.com",
        f"{'a' * 65}@example.com",
    ],
)
async def test_what_is_no_address_is_refused_and_never_sent(to: str, gateway: SmtpEmail, server: MailServer) -> None:
    with pytest.raises(SendRefused):
        await gateway.send(replace(LETTER, to=to))
    assert server.taken == []
    assert server.connections == 0


async def test_a_line_with_a_dot_ends_no_letter(gateway: SmtpEmail, server: MailServer) -> None:
    text = "one\n.\nQUIT\n..two\r\n.\r\nthree"
    await gateway.send(replace(LETTER, text=text))
    assert server.taken[0].text == text.replace("\r\n", "\n")


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("reply", ["421 going", "450 busy", "451 local error", "452 full", "552 over quota"])
async def test_what_may_be_taken_later_has_failed(
    stage: Literal["MAIL", "RCPT", "DATA"], reply: str, gateway: SmtpEmail, server: MailServer
) -> None:
    server.next(stage, reply)
    with pytest.raises(SendFailed):
        await gateway.send(LETTER)
    assert server.taken == []
    # And the next goes out, whatever became of the connection.
    await gateway.send(LETTER)
    assert len(server.taken) == 1


@pytest.mark.parametrize(
    ("stage", "reply", "outcome"),
    [
        ("RCPT", "550 5.1.1 no such user", SendRefused),
        ("RCPT", "553 no such mailbox name", SendRefused),
        ("RCPT", "550 5.7.1 relaying denied", SendFailed),
        ("MAIL", "550 who are you", SendFailed),
        ("MAIL", "530 sign in first", SendFailed),
        ("DATA", "554 5.7.1 the text looks like spam", SendRefused),
        ("DATA", "550 nobody there after all", SendRefused),
    ],
)
async def test_a_final_no_is_about_the_letter_or_about_us(
    stage: Literal["MAIL", "RCPT", "DATA"], reply: str, outcome: type[Exception], gateway: SmtpEmail, server: MailServer
) -> None:
    server.next(stage, reply)
    with pytest.raises(outcome):
        await gateway.send(LETTER)
    assert server.taken == []


@pytest.mark.parametrize(("act", "taken"), [(CUT_BEFORE, 0), (CUT_AFTER, 1)])
async def test_after_the_text_a_lost_connection_leaves_it_unknown(
    act: str, taken: int, gateway: SmtpEmail, server: MailServer
) -> None:
    server.next("DATA", act)
    with pytest.raises(SendUncertain):
        await gateway.send(LETTER)
    assert len(server.taken) == taken
    assert gateway.deduplicates is False


@pytest.mark.parametrize("stage", ["MAIL", "RCPT"])
async def test_before_the_text_a_lost_connection_is_a_failure(
    stage: Literal["MAIL", "RCPT"], gateway: SmtpEmail, server: MailServer
) -> None:
    server.next(stage, CUT_BEFORE)
    with pytest.raises(SendFailed):
        await gateway.send(LETTER)
    await gateway.send(LETTER)
    assert len(server.taken) == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("stage", "outcome"), [("MAIL", SendFailed), ("RCPT", SendFailed), ("DATA", SendUncertain)])
async def test_silence_ends_within_the_deadline(
    stage: Literal["MAIL", "RCPT", "DATA"], outcome: type[Exception], gateway: SmtpEmail, server: MailServer
) -> None:
    server.next(stage, SILENT)
    async with asyncio.timeout(5):
        with pytest.raises(outcome):
            await gateway.send(LETTER)


async def test_a_reply_that_is_none_leaves_the_letter_unknown(gateway: SmtpEmail, server: MailServer) -> None:
    server.next("DATA", "oops what")
    with pytest.raises(SendUncertain):
        await gateway.send(LETTER)


async def test_nobody_listening_is_a_failure(tmp_path: Path, server: MailServer) -> None:
    gateway = _gateway(server, tmp_path, port=1)
    with pytest.raises(SendFailed):
        await gateway.send(LETTER)
    with pytest.raises(SendFailed):
        await gateway.reachable()


async def test_a_connection_is_used_again_and_replaced_when_the_server_has_ended_it(
    gateway: SmtpEmail, server: MailServer
) -> None:
    await gateway.reachable()
    for _ in range(3):
        await gateway.send(LETTER)
    assert server.connections == 1
    server.hang_up()
    await gateway.send(LETTER)
    assert (server.connections, len(server.taken)) == (2, 4)


async def test_a_connection_that_stood_idle_for_long_is_not_trusted(
    gateway: SmtpEmail, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "IDLE_SECONDS", 0.0)
    await gateway.send(LETTER)
    await gateway.send(LETTER)
    assert (server.connections, len(server.taken)) == (2, 2)


async def test_letters_at_once_do_not_mix(gateway: SmtpEmail, server: MailServer) -> None:
    letters = [replace(LETTER, message_id=f"msg_{n}", to=f"p{n}@example.com", subject=f"s{n}", text=f"t{n}") for n in range(20)]
    await asyncio.gather(*(gateway.send(letter) for letter in letters))
    came = {(t.to[0], t.letter["Subject"], t.text) for t in server.taken}
    assert came == {(letter.to, letter.subject, letter.text) for letter in letters}
    assert len(server.taken) == 20


async def test_a_send_that_is_cut_off_leaves_no_connection_in_the_middle_of_something(
    gateway: SmtpEmail, server: MailServer
) -> None:
    server.next("RCPT", SILENT)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await gateway.send(LETTER)
    await gateway.send(replace(LETTER, to="other@example.com"))
    assert [taken.to for taken in server.taken] == [["other@example.com"]]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_letters_go_encrypted_to_a_server_that_is_known(tls: Tls, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(mail_server(tls, tmp_path))
        gateway = _gateway(server, tmp_path, tls)
        stack.push_async_callback(gateway.close)
        await gateway.send(LETTER)
        assert server.encrypted == [True]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_nothing_goes_to_a_server_with_a_certificate_of_nobody(tls: Tls, tmp_path: Path) -> None:
    async with mail_server(tls, tmp_path) as server:
        gateway = _gateway(server, tmp_path, tls, context=ssl.create_default_context())
        with pytest.raises(SendFailed):
            await gateway.send(LETTER)
        assert server.taken == []


async def test_nothing_goes_in_plain_to_a_server_without_starttls(server: MailServer, tmp_path: Path) -> None:
    gateway = _gateway(server, tmp_path, "starttls")
    with pytest.raises(SendFailed):
        await gateway.send(LETTER)
    assert server.taken == []


async def test_signing_in_works_and_a_wrong_password_can_be_mended(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(mail_server("starttls", tmp_path, auth=True))
        for username, password, outcome in ((USERNAME, "wrong", SendFailed), ("", "", SendFailed)):
            with pytest.raises(outcome):
                await _gateway(server, tmp_path, "starttls", username=username, password=password).send(LETTER)
        assert server.taken == []
        gateway = _gateway(server, tmp_path, "starttls", username=USERNAME, password=PASSWORD)
        stack.push_async_callback(gateway.close)
        await gateway.send(LETTER)
        assert len(server.taken) == 1


async def test_no_word_of_a_letter_or_of_a_reply_is_logged(
    server: MailServer, gateway: SmtpEmail, lines: list[EventDict], tmp_path: Path
) -> None:
    server.next("RCPT", f"550 5.1.1 <{LETTER.to}> is nobody here", f"450 {LETTER.to} later")
    with pytest.raises(SendRefused):
        await gateway.send(LETTER)
    with pytest.raises(SendFailed):
        await gateway.send(LETTER)
    with pytest.raises(SendFailed):
        await _gateway(server, tmp_path, port=1).send(LETTER)
    assert [line["event"] for line in lines] == ["email_not_taken"] * 3
    written = repr(lines)
    assert not any(word in written for word in (LETTER.to, "zhang", LETTER.subject, "nobody here", "later"))


def test_no_password_is_in_a_repr() -> None:
    where = SmtpServer("h", 25, "none", "u", PASSWORD, ssl.create_default_context())
    assert PASSWORD not in repr(where)
