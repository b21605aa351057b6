"""Sign-ins: a verified resident gets a session, and hears of it where that is out of the ordinary.

True here: what we remember of a device is a keyed code over the person, the way they proved who they are and the family of
the client (one of some forty words, such as `alipay/android`), for FAMILIAR; so two people on one telephone have nothing in
common in the database, and nothing there tells one telephone from another of its kind. A sign-in that was not seen before, or
by password, is told; what is to be told stands in the session from the write that made it, so none is lost. Never here: an
address, a user agent, or any other fingerprint in storage.

This tells of a stranger's telephone of another kind, or another way in. One of the same kind, by the same way, it does not
tell apart; sign-ins by the weakest way, the password, are therefore told every time.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from service.announcements import Announcement, Topic
from service.clock import Clock
from service.errands import Errand
from service.errors import Refusal
from service.holders import Access, AccessLogStore, HolderStore
from service.ids import HolderId, SessionId, derived_id
from service.locale import Locale, text
from service.notifications import Notifications
from service.sessions import Grant, Method, News, Sessions
from service.vault import Vault

# Who has not signed in on something for that long is told of it as if for the first time.
FAMILIAR: Final = timedelta(days=90)
# Remembering anew costs a write, and once a day is as good as every time.
_ANEW: Final = timedelta(days=1)

# What tells a client, in order: a super-app's browser also says what it is built on, and all say Safari.
_APPS: Final[Mapping[str, str]] = {
    "alipayclient": "alipay",
    "micromessenger": "wechat",
    "dingtalk": "dingtalk",
    "edg": "edge",
    "firefox": "firefox",
    "fxios": "firefox",
    "chrome": "chrome",
    "crios": "chrome",
    "safari": "safari",
}
_SYSTEMS: Final[Mapping[str, str]] = {
    "harmonyos": "harmony",
    "openharmony": "harmony",
    "iphone": "ios",
    "ipad": "ios",
    "android": "android",
    "windows": "windows",
    "macintosh": "macos",
    "linux": "linux",
}
_OTHER: Final = "other"


def family_of(user_agent: str) -> str:
    """The family of a client by its User-Agent header: app and system, each one of a few words, or `other`."""
    said = user_agent.lower()

    def among(words: Mapping[str, str]) -> str:
        return next((family for word, family in words.items() if word in said), _OTHER)

    return f"{among(_APPS)}/{among(_SYSTEMS)}"


@dataclass(frozen=True, slots=True)
class SessionNews:
    """Something about a session that its holder is to hear of. `device`: the code to remember once they were told."""

    session_id: SessionId
    holder_id: HolderId
    topic: Topic
    method: Method
    locale: Locale
    device: bytes | None

    @property
    def news_id(self) -> str:
        """Names it for good: a session is told of once as the same."""
        return f"{self.session_id}:{self.topic}"


class SessionNewsStore(Protocol):
    """Sessions as those see them who tell of them."""

    async def news(self, limit: int) -> list[SessionNews]:
        """Some that nobody has carried yet."""

    async def carried(self, news: SessionNews) -> None:
        """Take one off its session; taking it off again changes nothing."""


class FamiliarStore(Protocol):
    """Where it is kept on what people sign in."""

    async def familiar_until(self, device: bytes) -> datetime | None:
        """Until when this is familiar, if it ever was."""

    async def remember(self, device: bytes, until: datetime) -> None:
        """It is familiar until then."""


class SignIns:
    """Opening sessions for residents, and telling them of what is out of the ordinary."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        sessions: Sessions,
        news: SessionNewsStore,
        familiar: FamiliarStore,
        holders: HolderStore,
        log: AccessLogStore,
        notifications: Notifications,
        vault: Vault,
        clock: Clock,
    ) -> None:
        self._sessions = sessions
        self._news = news
        self._familiar = familiar
        self._holders = holders
        self._log = log
        self._notifications = notifications
        self._vault = vault
        self._clock = clock

    async def open(self, holder_id: HolderId, method: Method, user_agent: str, locale: Locale) -> Grant:
        """A session for somebody who was just verified; what is to be told of it is on its way when this returns."""
        now = self._clock.now()
        device = self._vault.mac("familiar-device", holder_id, method, family_of(user_agent))
        until = await self._familiar.familiar_until(device)
        if until is None or until <= now:
            topic: Topic | None = Topic.NEW_DEVICE
        else:
            topic = Topic.SIGNED_IN_BY_PASSWORD if method == "password" else None
            if until - now < FAMILIAR - _ANEW:
                await self._familiar.remember(device, now + FAMILIAR)
        news = News(topic, device if topic is Topic.NEW_DEVICE else None) if topic is not None else None
        grant = await self._sessions.open(holder_id, method, locale, news)
        # Before anybody has the session's tokens.
        access_id = derived_id("acc", grant.session.session_id, "signIn")
        await self._log.record(holder_id, Access(access_id, now, "signIn", "self", "app", method))
        if news is not None:
            told = SessionNews(grant.session.session_id, holder_id, news.topic, method, locale, news.device)
            # The session is open whatever becomes of this; should it fail, the relay finds it.
            with suppress(Refusal):
                await self._carry(told)
        return grant

    async def undone(self, limit: int) -> Sequence[Errand]:
        """News that nobody has carried yet; each may be carried as often as need be."""
        return [Errand(news.news_id, partial(self._carry, news)) for news in await self._news.news(limit)]

    async def _carry(self, news: SessionNews) -> None:
        holder = await self._holders.holder(news.holder_id)
        if holder is not None:
            told = Announcement(
                news.news_id,
                news.topic,
                news.locale,
                lambda locale: {"way": text(locale, f"ways.{news.method}")} if news.topic is Topic.NEW_DEVICE else {},
            )
            await self._notifications.tell(holder, told)
        if news.device is not None:
            await self._familiar.remember(news.device, self._clock.now() + FAMILIAR)
        await self._news.carried(news)
