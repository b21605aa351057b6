"""Messages to people: rendered and stored before the first try to send, sent by the relay (`service/deliveries.py`).

True here: a message has an id made of its happening and channel, so posting it again posts nothing; a message to nobody is
stored and carried like any other and only the last step, the sending, is left out. A person is told by text message and to
the address they confirmed, in their language and in the words of their region, but for what they declined; what waits for
the end of quiet hours is stored at once and due then. Never here: a message text in a log, or what people are told of
(`service/announcements.py`).
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from service.announcements import RULES, Announcement, Rule
from service.clock import Clock
from service.holders import Holder
from service.ids import HolderId, derived_id
from service.locale import Locale
from service.reach import Reach, ReachStore
from service.regions import Region, Regions
from service.wordings import Words

Channel = Literal["sms", "email"]
# `closed`: dead or uncertain, and a person has said that it is left at that.
State = Literal["due", "sending", "sent", "dead", "uncertain", "closed"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to be said to a number or an address, whoever has it.

    `happening` names it for good; `to`: a mobile, or an email address where `channel` says so; after `until` it is no use.
    `whose`: the person it is about, where that is known; it goes with them when they are erased.
    """

    happening: str
    template: str
    to: str
    locale: Locale
    values: Mapping[str, object]
    suppressed: bool = False
    until: datetime | None = None
    channel: Channel = "sms"
    whose: HolderId | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A rendered message on its way. `to` is a mobile or an email address, as `channel` says; only email has a `subject`.

    `values` are what stands in the places of the template, for providers who keep the templates themselves. `fence` grows
    with every claim, so that a late worker changes nothing.
    """

    message_id: str
    channel: Channel
    to: str
    template: str
    subject: str | None
    text: str
    code: str | None
    values: Mapping[str, str]
    locale: Locale
    suppressed: bool
    attempts: int
    fence: int
    until: datetime | None = None
    whose: HolderId | None = None


class MessageStore(Protocol):
    """Where messages are kept."""

    async def add(self, message: Message, now: datetime, due_at: datetime | None = None) -> None:
        """Keep a message that is due now, or later; one with the same id is already kept and stays as it is."""


class Notifications:
    """Posting."""

    def __init__(self, store: MessageStore, reach: ReachStore, regions: Regions, clock: Clock) -> None:
        self._store = store
        self._reach = reach
        self._regions = regions
        self._clock = clock
        # Set whenever there may be something to send, so that nobody waits for the next poll.
        self.posted = asyncio.Event()

    async def post(self, notice: Notice) -> None:
        """Render and store, to go at any hour; returns when it is safe. Posting the same happening again changes nothing."""
        words = Words(notice.template, notice.locale, notice.values)
        await self._store.add(_message(notice, words), self._clock.now())
        self.posted.set()

    async def tell(self, holder: Holder, announcement: Announcement, *, instead: str | None = None) -> None:
        """Render and store what a person is to hear of, once a channel; returns when it is safe. Told again, it tells no more.

        `instead`: an address that was theirs until now, to write to in the place of the one they have.
        """
        rule, reach = RULES[announcement.topic], await self._reach.reach(holder.holder_id)
        region = self._regions.by_code.get(holder.region_code)
        now = self._clock.now()
        due_at = _due_at(rule, region, now)
        locale = reach.locale or announcement.locale
        values = announcement.values(locale)
        words = _worded(rule.template, locale, values, region)
        for channel, to in _ways(holder, rule, reach, instead):
            notice = Notice(announcement.happening, rule.template, to, locale, values, channel=channel, whose=holder.holder_id)
            await self._store.add(_message(notice, words), now, due_at)
        self.posted.set()


def _message(notice: Notice, words: Words) -> Message:
    code = notice.values.get("code")
    by_email = notice.channel == "email"
    return Message(
        message_id=derived_id("msg", notice.happening, notice.channel),
        channel=notice.channel,
        to=notice.to,
        template=notice.template,
        subject=words.subject if by_email else None,
        text=words.letter if by_email else words.sms,
        code=str(code) if code is not None else None,
        values={name: str(value) for name, value in notice.values.items()},
        locale=notice.locale,
        suppressed=notice.suppressed,
        attempts=0,
        fence=0,
        until=notice.until,
        whose=notice.whose,
    )


def _due_at(rule: Rule, region: Region | None, now: datetime) -> datetime:
    """When something may go: at once, or when the quiet hours of the person's region are over."""
    quiet = region.policy.messages.quiet_hours if region is not None and rule.waits else None
    return quiet.over_at(now) if quiet is not None else now


def _worded(template: str, locale: Locale, values: Mapping[str, object], region: Region | None) -> Words:
    """The words of a template as the person's region says them."""
    if region is None:
        return Words(template, locale, values)
    policy = region.policy.messages
    own = policy.texts.get(template)
    return Words(template, locale, values, own.text if own else None, own.subject if own else None, policy.signature)


def _ways(holder: Holder, rule: Rule, reach: Reach, instead: str | None) -> Iterator[tuple[Channel, str]]:
    """Where somebody hears of it: every way to them that they did not decline for it."""
    email = instead or reach.email
    if holder.mobile and not (rule.optional and rule.kind in reach.sms_declined):
        yield "sms", holder.mobile
    if email and not (rule.optional and rule.kind in reach.email_declined):
        yield "email", email
