"""Puts together what people are told and how they are reached: posting, contacts, sign-ins, and what the relay carries of them.

True here: there is one way of posting in a process, whoever has something to tell. Never here: a rule.
"""

from dataclasses import dataclass

from service.card_news import CardNews
from service.clock import Clock
from service.contacts import ContactBook, ContactStore
from service.dependant_news import DependantErrands, DependantNewsStore
from service.errands import Errands
from service.holders import AccessLogStore, HolderStore
from service.limits import Limits
from service.notifications import MessageStore, Notifications
from service.regions import Regions
from service.sessions import Sessions
from service.sign_ins import FamiliarStore, SessionNewsStore, SignIns
from service.vault import Vault


@dataclass(frozen=True, slots=True)
class ContactOffice:
    """What tells people of something. `cards` hears what happened to cards; `errands` are the relay's."""

    notifications: Notifications
    contacts: ContactBook
    sign_ins: SignIns
    cards: CardNews
    errands: tuple[Errands, ...]


def contact_office(  # noqa: PLR0913  everything it stands on, named
    *,
    messages: MessageStore,
    contacts: ContactStore,
    links: DependantNewsStore,
    session_news: SessionNewsStore,
    familiar: FamiliarStore,
    sessions: Sessions,
    holders: HolderStore,
    accesses: AccessLogStore,
    limits: Limits,
    regions: Regions,
    vault: Vault,
    clock: Clock,
) -> ContactOffice:
    """Put it together."""
    notifications = Notifications(messages, contacts, regions, clock)
    book = ContactBook(
        store=contacts, holders=holders, log=accesses, notifications=notifications, limits=limits, vault=vault, clock=clock
    )
    sign_ins = SignIns(
        sessions=sessions,
        news=session_news,
        familiar=familiar,
        holders=holders,
        log=accesses,
        notifications=notifications,
        vault=vault,
        clock=clock,
    )
    return ContactOffice(
        notifications=notifications,
        contacts=book,
        sign_ins=sign_ins,
        cards=CardNews(notifications, holders),
        errands=(book, sign_ins, DependantErrands(links, notifications, holders)),
    )
