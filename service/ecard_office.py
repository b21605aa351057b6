"""The e-card office: puts together what an e-card, its codes and its news take.

True here: stores and neighbours come from outside. Never here: a rule.
"""

from dataclasses import dataclass

from service.cards import CardStore
from service.clock import Clock
from service.ecard_codes import EcardCodes, EcardCodeStore
from service.ecard_news import EcardNews
from service.ecards import Ecards, EcardStore
from service.holders import AccessLogStore, HolderStore
from service.limits import Limits
from service.notifications import Notifications
from service.passwords import Passwords
from service.regions import Regions
from service.vault import Vault


@dataclass(frozen=True, slots=True)
class EcardOffice:
    """From an application to a code that is redeemed."""

    ecards: Ecards
    codes: EcardCodes
    news: EcardNews


def ecard_office(  # noqa: PLR0913  everything it stands on, named
    *,
    store: EcardStore,
    codes: EcardCodeStore,
    cards: CardStore,
    holders: HolderStore,
    accesses: AccessLogStore,
    notifications: Notifications,
    limits: Limits,
    regions: Regions,
    passwords: Passwords,
    vault: Vault,
    clock: Clock,
) -> EcardOffice:
    """All of it on the same stores."""
    ecards = Ecards(
        store=store,
        cards=cards,
        holders=holders,
        log=accesses,
        regions=regions,
        limits=limits,
        passwords=passwords,
        clock=clock,
    )
    return EcardOffice(
        ecards=ecards,
        codes=EcardCodes(
            store=codes,
            ecards=ecards,
            ecard_store=store,
            log=accesses,
            regions=regions,
            limits=limits,
            passwords=passwords,
            vault=vault,
            clock=clock,
        ),
        news=EcardNews(store, notifications, holders),
    )
