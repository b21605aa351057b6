"""Contributions over HTTP."""

import re
from typing import Final

from handlers.cursors import cursor, place
from handlers.endpoints import Call
from schemas.contributions import ContributionsView, contributions_view
from service.contributions import MONTH_PATTERN, Month, Place
from service.dependants import Act
from service.errors import invalid
from service.insurance import INSURANCES

_MONTH: Final = re.compile(MONTH_PATTERN)
_CODES: Final = {str(code): code for code in INSURANCES}


async def list_contributions(call: Call[None]) -> ContributionsView:
    """What was paid into my social insurances, or a dependant's, by month."""
    query = call.query
    wanted, after = query.wanted(), _place(query.cursor)
    whose = call.holder_id
    if query.on_behalf_of is not None:
        whose = await call.services.dependants.acting_for(whose, query.on_behalf_of, Act.SEE_CONTRIBUTIONS, call.now)
    page = await call.services.contributions.page(whose, wanted, after, query.limit)
    return contributions_view(page, cursor(".".join(page.after)) if page.after else None)


def _place(given: str | None) -> Place | None:
    text = place(given)
    if text is None:
        return None
    month, _, code = text.partition(".")
    if _MONTH.fullmatch(month) is None or code not in _CODES:
        raise invalid("cursor", "invalid")
    return Month(month), _CODES[code]
