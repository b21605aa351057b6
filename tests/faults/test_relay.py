import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from api.client import Api
from faults.post_office import NOTICE, Post, at_work
from faults.workers import Worker, worker

from service.config import Config
from service.deliveries import BACKOFF, LEASE, SEND_SECONDS
from service.errors import Refusal
from service.gateways.sending import SendFailed, SendUncertain
from service.gateways.sms import Sms
from service.ids import HolderId, new_id
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.notifications import Notice
from service.relay import SIDE_BY_SIDE, Happening
from service.wordings import Words

# `make soak` turns this up.
ROUNDS = int(os.environ.get("YIKA_SOAK_ROUNDS", "5"))


async def test_what_happened_is_told_once_to_who_did_it_in_their_language(post: Post) -> None:
    guardian, _ = await post.resident("sealed2")
    await post.activated("sealed", by=guardian.holder_id)
    await post.deliver()
    assert [(sms.to, sms.template, sms.code) for sms in post.provider.sent] == [(guardian.mobile, "card_activated", None)]
    assert post.provider.sent[0].text == Words("card_activated", "zh-CN", {}).sms
    assert not await post.relay.carry()
    assert not await post.send_next()
    assert len(post.provider.offered) == 1
    assert list(post.states().values()) == ["sent"]


async def test_a_happening_that_is_posted_twice_is_one_message(post: Post) -> None:
    for _ in range(3):
        await post.notifications.post(NOTICE)
    while await post.send_next():
        pass
    await post.notifications.post(NOTICE)
    assert not await post.send_next()
    assert [sms.text for sms in post.provider.offered] == [Words("verification_code", "en", NOTICE.values).sms]


class _Slow:
    """A hearer who needs the longer, the earlier something happened."""

    def __init__(self, last: datetime) -> None:
        self._last = last
        self.heard: list[datetime] = []

    async def hear(self, happening: Happening) -> None:
        await asyncio.sleep((self._last - happening.at).total_seconds())
        self.heard.append(happening.at)


async def test_what_happened_to_one_card_is_heard_in_that_order(post: Post) -> None:
    person = await post.activated("sealed")
    query = {"holderId": person.holder_id}
    card = post.raw.cards.find_one(query)
    assert card is not None
    (first,) = card["outbox"]
    more = [first | {"id": f"{first['id']}-{n}", "at": first["at"] + timedelta(milliseconds=40 * n)} for n in (3, 1, 2)]
    post.raw.cards.update_one(query, {"$push": {"outbox": {"$each": more}}})
    slow = _Slow(post.clock.at + timedelta(milliseconds=120))
    assert await post.relay_of(post.cards, before=(slow,)).carry()
    assert slow.heard == [post.clock.at + timedelta(milliseconds=40 * n) for n in range(4)]
    assert not await post.cards.waiting()


class _Stops(MongoCardStore):
    """Cards of a process that stops between posting a message and taking the happening off the card."""

    async def carried(self, happenings: Sequence[Happening]) -> None:
        raise asyncio.CancelledError(len(happenings))


async def test_a_stop_between_posting_and_taking_off_leaves_one_message(post: Post, post_database: Database) -> None:
    await post.activated("sealed")
    doomed = post.relay_of(_Stops(post_database, post.cards._vault))  # noqa: SLF001  the same keys
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await doomed.carry()
    assert await post.cards.waiting()
    assert list(post.states().values()) == ["due"]
    await post.deliver()
    assert not await post.cards.waiting()
    assert len(post.provider.offered) == 1
    assert list(post.states().values()) == ["sent"]


async def test_several_relays_at_once_tell_each_happening_once(post: Post) -> None:
    keys = ("sealed", "sealed2", "sealed3", "sealed4", "sealed5")
    mobiles = [(await post.activated(key)).mobile for key in keys]
    relays = [post.relay for _ in range(4)]
    await asyncio.gather(*(relay.carry() for relay in relays))
    await asyncio.gather(*(post.deliver() for _ in range(4)))
    assert Counter(sms.to for sms in post.provider.offered) == Counter(mobiles)


async def _under_way(post: Post) -> tuple[asyncio.Task[bool], asyncio.Event]:
    """A worker that is stuck with the provider, and what lets it go on."""
    go_on, reached = asyncio.Event(), asyncio.Event()

    async def stick(_: Sms) -> None:
        if not reached.is_set():
            reached.set()
            await go_on.wait()

    post.provider.fault = stick
    await post.notifications.post(NOTICE)
    sending = asyncio.create_task(post.send_next())
    await reached.wait()
    return sending, go_on


async def test_a_send_that_outlives_its_lease_is_repeated_where_the_provider_tells_repeats(post: Post) -> None:
    sending, go_on = await _under_way(post)
    post.clock.at += LEASE - timedelta(milliseconds=1)
    assert not await post.send_next()
    post.clock.at += timedelta(milliseconds=1)
    assert await post.send_next()
    go_on.set()
    assert await sending
    first, second = post.provider.offered
    assert first == second
    assert len(post.provider.sent) == 1
    assert list(post.states().values()) == ["sent"]


async def test_a_send_that_outlives_its_lease_is_uncertain_where_the_provider_does_not(post: Post) -> None:
    post.provider.deduplicates = False
    sending, go_on = await _under_way(post)
    post.clock.at += LEASE
    assert await post.send_next()
    assert list(post.states().values()) == ["uncertain"]
    go_on.set()
    assert await sending
    post.clock.at += timedelta(days=1)
    assert not await post.send_next()
    assert len(post.provider.sent) == 1
    # The one who came late settles nothing: a person has to look.
    assert list(post.states().values()) == ["uncertain"]


@pytest.mark.parametrize("deduplicates", [True, False])
async def test_when_nobody_knows_whether_it_was_sent_it_is_sent_again_only_where_repeats_are_told(
    post: Post, *, deduplicates: bool
) -> None:
    async def uncertain(_: Sms) -> None:
        post.provider.fault = None
        raise SendUncertain

    post.provider.deduplicates = deduplicates
    post.provider.fault = uncertain
    await post.notifications.post(NOTICE)
    assert await post.send_next()
    assert list(post.states().values()) == ["due" if deduplicates else "uncertain"]
    post.clock.at += timedelta(days=1)
    assert await post.send_next() is deduplicates
    assert list(post.states().values()) == ["sent" if deduplicates else "uncertain"]
    assert len(post.provider.offered) == (2 if deduplicates else 1)


async def test_a_provider_that_keeps_failing_is_asked_ever_less_often_and_at_last_no_more(post: Post) -> None:
    async def fail(_: Sms) -> None:
        raise SendFailed

    post.provider.fault = fail
    await post.notifications.post(NOTICE)
    for wait in BACKOFF:
        assert await post.send_next()
        assert list(post.states().values()) == ["due"]
        post.clock.at += wait - timedelta(milliseconds=1)
        assert not await post.send_next()
        post.clock.at += timedelta(milliseconds=1)
    assert list(BACKOFF) == sorted(BACKOFF)
    assert await post.send_next()
    assert list(post.states().values()) == ["dead"]
    post.clock.at += timedelta(days=29)
    assert not await post.send_next()
    assert len(post.provider.offered) == len(BACKOFF) + 1


async def test_a_provider_that_recovers_gets_the_message(post: Post) -> None:
    async def fail_twice(_: Sms) -> None:
        if len(post.provider.offered) <= 2:
            raise SendFailed

    post.provider.fault = fail_twice
    await post.notifications.post(NOTICE)
    for wait in (*BACKOFF[:2], timedelta(0)):
        assert await post.send_next()
        post.clock.at += wait
    assert len(post.provider.sent) == 1
    assert list(post.states().values()) == ["sent"]


@pytest.mark.parametrize("cut_off", [False, True])
async def test_a_message_to_nobody_is_carried_like_any_other_and_never_offered(post: Post, *, cut_off: bool) -> None:
    post.provider.deduplicates = False
    await post.notifications.post(Notice(NOTICE.happening, NOTICE.template, NOTICE.to, "en", NOTICE.values, suppressed=True))
    if cut_off:
        assert await post.messages.claim("codes", post.clock.now(), LEASE, 1)
        post.clock.at += LEASE
    assert await post.send_next()
    assert post.provider.offered == []
    # Nothing was sent, so there is nothing that a person would have to look at.
    assert list(post.states().values()) == ["sent"]


async def test_a_message_that_fails_unexpectedly_takes_no_other_along(post: Post) -> None:
    async def burst(sms: Sms) -> None:
        if sms.to.endswith("0"):
            raise RuntimeError(sms.message_id)
        await asyncio.sleep(0.05)

    post.provider.fault = burst
    await post.posted(*(f"1540000000{number}" for number in range(4)))
    async with at_work(post.relay):
        while len(post.provider.sent) < 3:
            await asyncio.sleep(0.01)
    assert Counter(post.states().values()) == {"sent": 3, "due": 1}
    post.provider.fault = None
    post.clock.at += BACKOFF[0]
    await post.deliver()
    assert set(post.states().values()) == {"sent"}


async def test_a_provider_that_is_slow_with_one_message_holds_up_no_other(post: Post) -> None:
    stuck = asyncio.Event()

    async def stick(sms: Sms) -> None:
        if sms.to.endswith("0"):
            await stuck.wait()

    post.provider.fault = stick
    relay = post.relay
    async with at_work(relay):
        await post.posted(*(f"1540000000{number}" for number in range(20)))
        relay.wake()
        while len(post.provider.sent) < 18:
            await asyncio.sleep(0.01)
        stuck.set()
        while len(post.provider.sent) < 20:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("deduplicates", [True, False])
async def test_a_provider_that_never_answers_is_given_up(
    post: Post, monkeypatch: pytest.MonkeyPatch, *, deduplicates: bool
) -> None:
    async def hang(_: Sms) -> None:
        await asyncio.sleep(60)

    assert timedelta(seconds=SEND_SECONDS) < LEASE
    monkeypatch.setattr("service.deliveries.SEND_SECONDS", 0.05)
    post.provider.deduplicates = deduplicates
    post.provider.fault = hang
    await post.notifications.post(NOTICE)
    assert await post.send_next()
    assert list(post.states().values()) == ["due" if deduplicates else "uncertain"]


async def test_a_stop_lets_what_is_being_sent_end_and_begins_nothing_new(post: Post) -> None:
    all_busy, go_on = asyncio.Event(), asyncio.Event()

    async def take_a_while(_: Sms) -> None:
        if len(post.provider.offered) == SIDE_BY_SIDE:
            all_busy.set()
        await go_on.wait()

    post.provider.deduplicates = False
    post.provider.fault = take_a_while
    await post.posted(*(f"154000000{number}" for number in range(10, 40)))
    async with at_work(post.relay) as working:
        await all_busy.wait()
        working.cancel()
        await asyncio.sleep(0.1)
        assert not working.done()
        go_on.set()
        await asyncio.gather(working, return_exceptions=True)
    assert Counter(post.states().values()) == {"sent": SIDE_BY_SIDE, "due": 30 - SIDE_BY_SIDE}
    assert len(post.provider.sent) == SIDE_BY_SIDE


async def test_a_happening_that_cannot_be_carried_holds_up_no_other(post: Post) -> None:
    broken = await post.activated("sealed")
    good = await post.activated("sealed2")
    await post.notifications.post(NOTICE)
    holder = post.raw.holders.find_one({"_id": broken.holder_id})
    assert holder is not None
    sealed = bytearray(holder["mobile"])
    sealed[-1] ^= 1
    post.raw.holders.update_one({"_id": broken.holder_id}, {"$set": {"mobile": bytes(sealed)}})
    await post.deliver()
    assert sorted(sms.to for sms in post.provider.sent) == sorted([NOTICE.to, good.mobile])
    # It waits for whoever mends it, and nobody runs in circles until then.
    assert await post.cards.waiting()
    assert not await post.relay.carry()
    post.raw.holders.update_one({"_id": broken.holder_id}, {"$set": {"mobile": holder["mobile"]}})
    await post.deliver()
    assert [sms.to for sms in post.provider.sent].count(broken.mobile) == 1


async def test_a_happening_about_somebody_who_is_gone_is_taken_off(post: Post) -> None:
    await post.activated("sealed", by=HolderId(new_id("hld")))
    await post.deliver()
    assert not await post.cards.waiting()
    assert post.states() == {}


class _Away(MongoCardStore):
    """Cards in a database that is away for a while."""

    times = 2

    async def uncarried(self, limit: int) -> list[Happening]:
        self.times -= 1
        if self.times >= 0:
            raise (Refusal("unavailable"), ValueError("as unexpected as can be"))[self.times]
        return await super().uncarried(limit)


async def test_the_loop_outlives_a_database_that_is_away_and_what_nobody_expected(
    post: Post, post_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.rounds.POLL_SECONDS", 0.05)
    person = await post.activated("sealed")
    relay = post.relay_of(_Away(post_database, post.cards._vault))  # noqa: SLF001  the same keys
    async with at_work(relay):
        while not post.provider.sent:
            await asyncio.sleep(0.01)
    assert [sms.to for sms in post.provider.sent] == [person.mobile]


async def test_a_relay_that_is_woken_does_not_wait_for_its_next_look(post: Post) -> None:
    relay = post.relay
    async with at_work(relay):
        await asyncio.sleep(0.2)
        await post.activated("sealed")
        begun = asyncio.get_running_loop().time()
        relay.wake()
        while not post.provider.sent:
            await asyncio.sleep(0.005)
        assert asyncio.get_running_loop().time() - begun < 0.5


# The sandbox's text messages, as an integrator makes them fail.


async def _fault(api: Api, fault: str, times: int) -> None:
    assert (await api.post("/sandbox/faults", {"gateway": "sms", "fault": fault, "times": times})).status == 200


@pytest.mark.parametrize("fault", ["unavailable", "rejected"])
async def test_a_text_message_that_failed_arrives_later(api: Api, fault: str) -> None:
    mobile = (await api.persona("active"))["mobile"]
    await _fault(api, fault, 2)
    await api.start("active")
    assert await api.messages(mobile) == []
    await api.advance(2)
    assert await api.messages(mobile) == []
    await api.advance(10)
    assert [message["template"] for message in await api.messages(mobile)] == ["verification_code"]


async def test_a_text_message_whose_fate_is_unknown_arrives_once(api: Api) -> None:
    mobile = (await api.persona("active"))["mobile"]
    await _fault(api, "uncertain", 3)
    await api.start("active")
    for seconds in (2, 10, 60):
        assert len(await api.messages(mobile)) == 1
        await api.advance(seconds)
    assert len(await api.messages(mobile)) == 1


async def test_a_slow_text_message_holds_up_nobody_elses(api: Api) -> None:
    slow, other = (await api.persona("active"))["mobile"], (await api.persona("sealed"))["mobile"]
    await _fault(api, "slow", 1)
    await api.start("active")
    await asyncio.sleep(0.3)
    await api.start("sealed")
    arrived = {}
    for mobile in (slow, other):
        (message,) = await api.messages(mobile)
        arrived[mobile] = datetime.fromisoformat(message["sentAt"])
    assert arrived[slow] - arrived[other] > timedelta(seconds=2)


# Processes that are killed.


async def test_killed_at_any_moment_each_activated_card_is_told_once(api: Api, config: Config, tmp_path: Path) -> None:
    environment = {
        "YIKA_ENVIRONMENT": "sandbox",
        "YIKA_MONGODB_URI": config.mongodb_uri.get_secret_value(),
        "YIKA_MONGODB_DATABASE": config.mongodb_database,
        "YIKA_DATA_DIR": str(config.data_dir),
    }
    keys = ("sealed", "sealed2", "sealed3", "sealed4", "sealed5")
    tokens = {key: (await api.tokens(key, "face"))["accessToken"] for key in keys}
    bodies = {key: await api.details(key) for key in keys}
    mobiles = {key: (await api.persona(key))["mobile"] for key in keys}
    chance = random.Random(20261122)
    killed = 0

    async def ask(url: str, round_: int, key: str) -> None:
        async with Api(url, tokens[key]) as doomed:
            try:
                await doomed.activate(bodies[key], f"{round_}-{key}")
            except aiohttp.ClientError:
                return

    async def end(victim: Worker) -> None:
        await asyncio.sleep(chance.random() * 0.08)
        await victim.end(signal.SIGKILL)

    async with AsyncExitStack() as stack:

        async def start(number: int) -> Worker:
            return await stack.enter_async_context(worker(environment, tmp_path / f"{number}.log"))

        for round_ in range(ROUNDS):
            victims = await asyncio.gather(*(start(2 * round_ + n) for n in range(2)))
            await api.post("/sandbox/reset")
            await asyncio.gather(
                *(ask(victims[n % 2].url, round_, key) for n, key in enumerate(keys)), *(end(victim) for victim in victims)
            )
            killed += len(victims)
            # Whoever was cut off retries with another process; what the dead had leased runs out.
            await api.advance(31)
            for key in keys:
                reply = await api.as_(tokens[key]).activate(bodies[key], f"{round_}-{key}")
                assert (reply.status, reply.json["result"]) == (200, "activated"), reply.raw
                card_id = reply.json["cardId"]
                history = (await api.as_(tokens[key]).get(f"/v1/cards/{card_id}/history")).json["items"]
                assert len(history) == 1
            await api.advance(31)
            for key in keys:
                told = [message["template"] for message in await api.messages(mobiles[key])]
                assert told == ["card_activated"], (round_, key)
    assert killed == 2 * ROUNDS
