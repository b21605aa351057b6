"""What cannot be sent, read or carried holds up nothing; workers whose clocks differ settle nothing of each other's."""

import asyncio
import itertools
from collections import Counter
from datetime import timedelta

import pytest
from faults.post_office import NOTICE, PEOPLE, REGIONS, Movable, Post, at_work
from structlog.testing import capture_logs

from service.cards import Activation
from service.clock import Clock
from service.deliveries import BACKOFF, LEASE, MOST_TRIES, Claim
from service.errands import Errand
from service.gateways.email import Email
from service.gateways.sending import SendFailed, SendRefused
from service.gateways.sms import Sms
from service.ids import ActivationId, CardId, HolderId, new_id
from service.mongo.cards import card_document
from service.notifications import Notice
from service.relay import MOST_AT_ONCE, SIDE_BY_SIDE, Backlog, Happening
from service.sandbox.records import card_records
from service.vault import Vault


async def _news(post: Post, number: int, channel: str = "sms") -> None:
    to = f"154{number:08d}" if channel == "sms" else f"resident{number}@example.com"
    await post.notifications.post(
        Notice(f"news:{number}", "card_activated", to, "en", {}, channel="sms" if channel == "sms" else "email")
    )


async def _hang(_: object) -> None:
    await asyncio.Event().wait()


async def test_news_that_goes_out_slowly_holds_up_neither_codes_nor_letters(post: Post) -> None:
    go_on = asyncio.Event()

    async def hang_with_news(sms: Sms) -> None:
        if sms.code is None:
            await go_on.wait()

    post.provider.fault = hang_with_news
    for number in range(3 * SIDE_BY_SIDE):
        await _news(post, number)
    async with at_work(post.relay):
        while len(post.provider.offered) < SIDE_BY_SIDE:
            await asyncio.sleep(0.01)
        await post.notifications.post(NOTICE)
        await _news(post, 1, "email")
        while not post.provider.sent or not post.mail.sent:
            await asyncio.sleep(0.01)
        assert len(post.provider.offered) == SIDE_BY_SIDE + 1
        go_on.set()
    assert [sms.message_id for sms in post.provider.sent if sms.code] == [post.provider.sent[0].message_id]


async def test_a_letter_has_its_subject_and_goes_to_its_own_gateway(post: Post) -> None:
    await _news(post, 7, "email")
    await post.deliver()
    (letter,) = post.mail.sent
    assert (letter.to, letter.template) == ("resident7@example.com", "card_activated")
    assert letter.subject
    assert letter.text
    assert post.provider.offered == []


async def test_each_gateway_says_for_itself_whether_it_tells_repeats(post: Post) -> None:
    post.provider.deduplicates, post.mail.deduplicates = True, False
    await _news(post, 1)
    await _news(post, 2, "email")
    for queue in ("sms", "email"):
        assert await post.deliveries.claim(queue, 1)
    post.clock.at += LEASE
    await post.deliver()
    assert Counter(post.states().values()) == {"sent": 1, "uncertain": 1}
    assert (len(post.provider.sent), len(post.mail.offered)) == (1, 0)


async def test_what_the_provider_will_never_take_is_offered_once(post: Post) -> None:
    async def refuse(_: Sms) -> None:
        raise SendRefused

    post.provider.fault = refuse
    await post.notifications.post(NOTICE)
    await post.deliver()
    assert list(post.states().values()) == ["dead"]
    post.clock.at += timedelta(days=1)
    assert not await post.send_next()
    assert len(post.provider.offered) == 1


@pytest.mark.parametrize(("deduplicates", "ends"), [(True, "dead"), (False, "uncertain")])
async def test_an_adapter_at_fault_is_not_asked_in_circles_and_the_message_ends(
    post: Post, *, deduplicates: bool, ends: str
) -> None:
    async def burst(sms: Sms) -> None:
        raise RuntimeError(sms.text)

    post.provider.deduplicates = deduplicates
    post.provider.fault = burst
    await post.notifications.post(NOTICE)
    with capture_logs() as logs:
        for wait in (*BACKOFF, timedelta(0)):
            await post.deliver()
            post.clock.at += wait
    assert list(post.states().values()) == [ends]
    assert len(post.provider.offered) == (len(BACKOFF) + 1 if deduplicates else 1)
    assert {(line["event"], line["error"]) for line in logs} == {("delivery_failed", "RuntimeError")}
    assert NOTICE.to not in str(logs)


async def test_a_message_that_ends_every_worker_that_takes_it_is_at_last_left_to_a_person(post: Post) -> None:
    await post.notifications.post(NOTICE)
    for _ in range(MOST_TRIES):
        (claim,) = await post.deliveries.claim("codes", 1)
        assert isinstance(claim, Claim)
        post.clock.at += LEASE
    assert await post.send_next()
    assert list(post.states().values()) == ["uncertain"]
    assert post.provider.offered == []


@pytest.mark.parametrize("field", ["to", "text", "code", "values"])
async def test_a_message_that_cannot_be_read_ends_dead_and_is_said_once(post: Post, field: str) -> None:
    await post.notifications.post(NOTICE)
    (document,) = post.raw.messages.find()
    post.raw.messages.update_one({"_id": document["_id"]}, {"$set": {field: document[field][:-1] + b"x"}})
    await _news(post, 1)
    with capture_logs() as logs:
        await post.deliver()
        post.clock.at += timedelta(days=1)
        assert not await post.send_next()
    assert [(line["event"], line["message"]) for line in logs] == [("message_unreadable", document["_id"])]
    assert Counter(post.states().values()) == {"dead": 1, "sent": 1}
    assert len(post.provider.sent) == 1


async def test_a_message_under_a_key_that_is_still_to_come_waits_for_it(post: Post) -> None:
    await post.notifications.post(NOTICE)
    (document,) = post.raw.messages.find()
    key = b"\x01\x04nope" + document["to"][2 + document["to"][1] :]
    post.raw.messages.update_one({"_id": document["_id"]}, {"$set": {"to": key}})
    with capture_logs():
        await post.deliver()
    assert list(post.states().values()) == ["due"]
    # The keyring came, and with it what opens the message.
    post.raw.messages.update_one({"_id": document["_id"]}, {"$set": {"to": document["to"]}})
    post.clock.at += BACKOFF[0]
    await post.deliver()
    assert [sms.to for sms in post.provider.sent] == [NOTICE.to]


# Two workers whose clocks differ.


@pytest.mark.parametrize("deduplicates", [True, False])
async def test_a_worker_whose_clock_is_ahead_takes_over_and_the_late_one_settles_nothing(
    post: Post, *, deduplicates: bool
) -> None:
    ahead = Movable()
    ahead.at = post.clock.at + timedelta(hours=1)
    slow, fast = post.deliveries, post.deliveries_by(ahead)
    post.provider.deduplicates = deduplicates
    go_on, reached = asyncio.Event(), asyncio.Event()

    async def stick(_: Sms) -> None:
        if not reached.is_set():
            reached.set()
            await go_on.wait()
            raise SendFailed

    post.provider.fault = stick
    await post.notifications.post(NOTICE)
    (claim,) = await slow.claim("codes", 1)
    sending = asyncio.create_task(slow.deliver(claim))
    await reached.wait()
    (taken_over,) = await fast.claim("codes", 1)
    assert isinstance(taken_over, Claim)
    assert taken_over.cut_off
    await fast.deliver(taken_over)
    ended = list(post.states().values())
    assert ended == ["sent" if deduplicates else "uncertain"]
    go_on.set()
    await sending
    assert list(post.states().values()) == ended
    assert len(post.provider.sent) == (1 if deduplicates else 0)
    assert len(post.provider.offered) == (2 if deduplicates else 1)


async def test_a_worker_whose_clock_is_behind_takes_nothing_that_another_has(post: Post) -> None:
    behind = Movable()
    behind.at = post.clock.at - timedelta(hours=1)
    await post.notifications.post(NOTICE)
    assert await post.deliveries.claim("codes", 1)
    assert not await post.deliveries_by(behind).claim("codes", 1)
    post.clock.at += LEASE
    assert not await post.deliveries_by(behind).claim("codes", 1)
    assert await post.deliveries.claim("codes", 1)


async def test_of_many_workers_at_once_one_sends_each_message(post: Post) -> None:
    clocks = [Movable() for _ in range(4)]
    for number, clock in enumerate(clocks):
        # A few seconds apart, as machines are.
        clock.at = post.clock.at + timedelta(seconds=2 * number)
    post.provider.deduplicates = False

    async def take_a_while(_: Sms) -> None:
        await asyncio.sleep(0.002)

    post.provider.fault = take_a_while
    for number in range(120):
        await _news(post, number)

    async def work(clock: Clock) -> None:
        deliveries = post.deliveries_by(clock)
        while claims := await deliveries.claim("sms", 8):
            await asyncio.gather(*(deliveries.deliver(claim) for claim in claims))

    await asyncio.gather(*(work(clock) for clock in clocks))
    assert Counter(Counter(sms.to for sms in post.provider.offered).values()) == {1: 120}
    assert Counter(post.states().values()) == {"sent": 120}


# Happenings and errands that fail.


class _Stumbles:
    """Hears of everything but of some cards, and how often it was asked about each."""

    def __init__(self, over: set[CardId]) -> None:
        self.over = over
        self.asked: Counter[CardId] = Counter()

    async def hear(self, happening: Happening) -> None:
        self.asked[happening.card_id] += 1
        if happening.card_id in self.over:
            raise KeyError(happening.name)


def _many_activated(post: Post, vault: Vault, count: int) -> list[CardId]:
    """Cards of one persona that were activated just now, straight into the database."""
    (record,) = card_records(PEOPLE["sealed"], REGIONS, post.clock.now())
    documents = []
    for number in range(count):
        document = card_document(vault, record.card, record.id_number, record.figures, ())
        card_id = new_id("card")
        waits = {"id": f"{card_id}:2", "at": post.clock.now(), "happening": "activated", "tell": record.card.holder_id}
        documents.append(
            document | {"_id": card_id, "numberIndex": number.to_bytes(32), "outbox": [waits | {"locale": "zh-CN"}]}
        )
    post.raw.cards.insert_many(documents)
    return [document["_id"] for document in documents]


async def test_more_that_cannot_be_carried_than_a_relay_looks_at_hold_up_no_other(post: Post) -> None:
    await post.resident("sealed")
    vault = post.cards._vault  # noqa: SLF001  the same keys
    broken = _many_activated(post, vault, 5 * MOST_AT_ONCE)
    good = _many_activated_beyond(post, vault)
    stumbles = _Stumbles(set(broken))
    relay = post.relay_of(post.cards, before=[stumbles])
    with capture_logs():
        for _ in range(40):
            await relay.carry()
            if all(stumbles.asked[card_id] for card_id in good):
                break
    assert all(stumbles.asked[card_id] == 1 for card_id in good)
    # Each that fails was tried, and none again so soon.
    assert max(stumbles.asked.values()) == 1
    assert post.raw.messages.count_documents({}) == len(good)
    assert post.raw.cards.count_documents({"outbox.id": {"$exists": True}}) == len(broken)


def _many_activated_beyond(post: Post, vault: Vault) -> list[CardId]:
    (record,) = card_records(PEOPLE["sealed"], REGIONS, post.clock.now())
    made = []
    for number in range(10):
        card_id = CardId(new_id("card"))
        document = card_document(vault, record.card, record.id_number, record.figures, ())
        waits = {"id": f"{card_id}:2", "at": post.clock.now(), "happening": "activated", "tell": record.card.holder_id}
        number_index = (1_000_000 + number).to_bytes(32)
        post.raw.cards.insert_one(
            document | {"_id": card_id, "numberIndex": number_index, "outbox": [waits | {"locale": "zh-CN"}]}
        )
        made.append(card_id)
    return made


async def test_what_fails_is_not_tried_in_circles_however_often_somebody_calls(post: Post) -> None:
    person = await post.activated("sealed")
    (card,) = post.raw.cards.find({"holderId": person.holder_id})
    stumbles = _Stumbles({card["_id"]})
    tries: list[str] = []

    class Errands:
        async def undone(self, limit: int) -> list[Errand]:
            async def fail() -> None:
                tries.append("broken")
                raise ValueError(limit)

            async def do() -> None:
                tries.append("good")

            return [Errand("broken", fail), *([] if "good" in tries else [Errand("good", do)])]

    relay = post.relay_of(post.cards, Errands(), before=[stumbles])
    with capture_logs() as logs:
        async with at_work(relay):
            for _ in range(120):
                relay.wake()
                await asyncio.sleep(0.01)
    assert stumbles.asked[card["_id"]] in {1, 2}
    assert Counter(tries)["broken"] in {1, 2}
    assert Counter(tries)["good"] == 1
    assert {line["event"] for line in logs} == {"relay_failed"}


async def test_a_happening_of_a_card_is_carried_though_another_of_the_same_card_is_not(post: Post) -> None:
    person, card = await post.resident("sealed")
    done = Activation(ActivationId(new_id("act")), post.clock.now(), "app", card.holder_id, b"r" * 32)
    waits = {"at": done.at, "tell": card.holder_id, "locale": "en"}
    names = ("temporaryLossReported", "lossCancelled", "activated")
    outbox = [waits | {"id": f"{card.card_id}:{number}", "happening": name} for number, name in enumerate(names, start=2)]
    post.raw.cards.update_one({"_id": card.card_id}, {"$set": {"outbox": outbox}})

    class Deaf:
        async def hear(self, happening: Happening) -> None:
            if happening.name == "lossCancelled":
                raise ValueError

    relay = post.relay_of(post.cards, before=[Deaf()])
    with capture_logs():
        assert await relay.carry()
        assert not await relay.carry()
    (after,) = post.raw.cards.find({"_id": card.card_id})
    assert [item["happening"] for item in after["outbox"]] == ["lossCancelled"]
    await post.deliver()
    templates = ["card_activated", "loss_cancelled", "temporary_loss_reported"]
    assert sorted(sms.template for sms in post.provider.sent) == templates
    assert {sms.to for sms in post.provider.sent} == {person.mobile}


# How far behind it is.


async def test_a_relay_says_how_far_behind_it_is(post: Post) -> None:
    relay = post.relay
    assert await relay.backlog() == Backlog(happenings=0, messages=0, oldest_seconds=0.0, dead=0, uncertain=0)
    await post.activated("sealed")
    post.clock.at += timedelta(seconds=30)
    await post.activated("sealed2")
    await post.notifications.post(NOTICE)
    post.clock.at += timedelta(seconds=12)
    assert await relay.backlog() == Backlog(happenings=2, messages=1, oldest_seconds=42.0, dead=0, uncertain=0)
    assert await relay.carry()
    assert await relay.backlog() == Backlog(happenings=0, messages=3, oldest_seconds=12.0, dead=0, uncertain=0)
    fates = itertools.cycle(("dead", "uncertain", "dead"))
    for document in post.raw.messages.find():
        post.raw.messages.update_one({"_id": document["_id"]}, {"$set": {"state": next(fates)}})
    assert await relay.backlog() == Backlog(happenings=0, messages=0, oldest_seconds=0.0, dead=2, uncertain=1)


async def test_a_mail_server_that_hangs_is_no_matter_to_a_stop(post: Post) -> None:
    async def hang(email: Email) -> None:
        await _hang(email)

    post.mail.fault = hang
    post.mail.deduplicates = False
    await _news(post, 1, "email")
    begun = asyncio.get_running_loop().time()
    working = asyncio.create_task(post.relay.run())
    while not post.mail.offered:
        await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    # It waits for what is being sent, and not for ever.
    assert 4.5 < asyncio.get_running_loop().time() - begun < 8
    post.clock.at += LEASE
    await post.deliver()
    assert list(post.states().values()) == ["uncertain"]
    assert len(post.mail.offered) == 1


async def test_happenings_of_somebody_else_are_not_taken_off_by_who_carried_their_own(post: Post) -> None:
    await post.activated("sealed")
    bystander = await post.activated("sealed2")
    (mine,) = [one for one in await post.cards.uncarried(10) if one.tell != HolderId(bystander.holder_id)]
    for _ in range(2):
        await post.cards.carried([mine])
    assert [one.tell for one in await post.cards.uncarried(10)] == [bystander.holder_id]
