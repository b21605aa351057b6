"""Newcomers: people whom an institution speaks of and who are not known here yet.

True here: a person is known by the ID number, under an id that follows from it, so that whoever speaks of them first and
however often, they are one; what is known of them is never changed by somebody else's word, their mobile least of all, because
that is where proof of who they are is sent. Never here: an invented number in production.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from service.errors import Refusal, invalid
from service.holders import Holder, HolderStore
from service.imports import holder_id_of
from service.numbers import ResidentId
from service.vault import Vault


class NewcomerStore(HolderStore, Protocol):
    """People's storage as newcomers need it."""

    async def add(self, holder: Holder) -> bool:
        """Keep a new person; False when somebody with their ID number is there already."""


@dataclass(frozen=True, slots=True)
class Named:
    """Somebody as an institution names them, each part well-formed by itself."""

    name: str
    id_number: ResidentId
    mobile: str


class Newcomers:
    """Knowing people, or getting to know them."""

    def __init__(self, store: NewcomerStore, vault: Vault, has_a_place: Callable[[str], bool]) -> None:
        """`has_a_place`: whether an ID number may be somebody's in this environment."""
        self._store = store
        self._vault = vault
        self._has_a_place = has_a_place

    async def known_or_new(self, named: Named, region_code: str) -> Holder:
        """The person with this ID number; one who was not known is kept as insured in a region.

        Refuses with `invalid_request`: `name` when they are known by another one, `idNumber` for one that is nobody's here.
        """
        number = named.id_number.number
        if not self._has_a_place(number):
            raise invalid("idNumber", "not_allowed")
        found = await self._store.holder_by_number(number)
        if found is None:
            holder_id = holder_id_of(self._vault, region_code, number)
            newcomer = Holder(holder_id, named.name, number, named.mobile, region_code, None, None)
            if await self._store.add(newcomer):
                return newcomer
            found = await self._store.holder_by_number(number)
        if found is None:
            # Somebody adds them at this instant, and a majority has not seen it yet.
            raise Refusal("outcome_unknown", retry_after=1)
        if found.name != named.name:
            raise invalid("name", "name_mismatch")
        return found
