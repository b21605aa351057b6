import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import bson
import pytest
from storage.conftest import Raw

from service.clock import Clock
from service.dependants import MOST_GUARDIANS, Dependant, Dependants, Household, Linked, dependant_id_of
from service.errors import Refusal
from service.holders import Holder
from service.ids import HolderId, new_id
from service.limits import Limits
from service.mongo.client import Database
from service.mongo.dependants import MongoDependantStore
from service.mongo.holders import MongoAccessLogStore, MongoHolderStore
from service.mongo.limits import MongoLimitStore
from service.numbers import parse_resident_id, resident_id_check_character
from service.regions import SHIPPED, Regions
from service.vault import Vault, VaultError

# The real time, to the second: the server sweeps away what has expired by its own clock.
NOW = datetime.now(UTC).replace(microsecond=0)
REGIONS = Regions.load_directory(SHIPPED)
REGISTER = "990012345"
CHILD_BORN = date(NOW.year - 8, 6, 30)


def _person(sequence: int, born: date, register: str | None) -> Holder:
    body = f"196533{born:%Y%m%d}{sequence:03d}"
    number = body + resident_id_check_character(body)
    return Holder(HolderId(new_id("hld")), f"李假{sequence}", number, f"154{sequence:08d}", "990100", None, register)


def _household(child: Holder) -> Household:
    return Household(child.name, parse_resident_id(child.id_number, today=NOW.date()), "child", REGISTER)


def _link(guardian: Holder, child: Holder, **changes: Any) -> Dependant:
    made = Dependant(
        dependant_id=dependant_id_of(guardian.holder_id, child.holder_id),
        guardian_id=guardian.holder_id,
        holder_id=child.holder_id,
        relationship="child",
        until=date(NOW.year + 8, 6, 30),
        seat=0,
        version=1,
        linked_by=b"r" * 32,
        ended_at=None,
        ended_by=None,
    )
    return replace(made, **changes)


@dataclass(frozen=True)
class Place:
    """Stores, the use cases on them, and a household: more grown-ups than a child may have guardians, and one child."""

    links: MongoDependantStore
    holders: MongoHolderStore
    dependants: Dependants
    adults: tuple[Holder, ...]
    child: Holder
    raw: Raw

    async def link(self, guardian: Holder, request: bytes) -> Linked:
        return await self.dependants.link(guardian.holder_id, _household(self.child), request=request, now=NOW)


@pytest.fixture
async def place(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[Place]:
    """With a household beside it that no test may change: a link that is alive, and one that was ended."""
    links, holders = MongoDependantStore(own, vault), MongoHolderStore(own, vault)
    others = [_person(number, date(1980, 1, number), "990054321") for number in (1, 2)]
    for seat, other in enumerate(others):
        ended = {"seat": None, "ended_at": NOW, "ended_by": b"e" * 32} if seat else {}
        await links.put(_link(other, _person(3, CHILD_BORN, None), **ended))
    bystanders = list(raw.dependants.find().sort("_id"))
    adults = tuple(_person(number, date(1985, 3, 3), REGISTER) for number in range(100, 108))
    child = _person(300, CHILD_BORN, REGISTER)
    for person in (*adults, child):
        await holders.put(person)
    log = MongoAccessLogStore(own)
    limits = Limits(MongoLimitStore(own), vault, Clock())
    yield Place(
        links,
        holders,
        Dependants(store=links, holders=holders, log=log, regions=REGIONS, limits=limits),
        adults,
        child,
        raw,
    )
    assert list(raw.dependants.find({"_id": {"$in": [one["_id"] for one in bystanders]}}).sort("_id")) == bystanders
    for name in ("dependants", "holders", "accesses", "limits"):
        raw[name].delete_many({})


async def test_a_link_comes_back_as_it_was_made(place: Place) -> None:
    guardian = place.adults[0]
    link = _link(guardian, place.child, seat=2)
    assert await place.links.dependant(link.dependant_id) is None
    assert await place.links.link(None, link)
    assert await place.links.dependant(link.dependant_id) == link
    assert list(await place.links.seated(place.child.holder_id)) == [link]
    assert await place.links.links_of(guardian.holder_id, None, 10) == [link]
    assert await place.links.links_of(guardian.holder_id, link.dependant_id, 10) == []


async def test_a_link_is_made_once_and_a_seat_is_taken_once(place: Place) -> None:
    first, second = place.adults[:2]
    link = _link(first, place.child)
    assert await place.links.link(None, link)
    assert not await place.links.link(None, replace(link, seat=1))
    assert not await place.links.link(None, _link(second, place.child))
    assert await place.links.link(None, _link(second, place.child, seat=1))
    assert await place.links.dependant(link.dependant_id) == link


async def test_an_ended_link_gives_its_seat_back_and_is_made_anew_only_as_it_was_read(place: Place) -> None:
    guardian, other = place.adults[:2]
    link = _link(guardian, place.child)
    assert await place.links.link(None, link)
    assert await place.links.end(link, NOW, b"e" * 32)
    assert not await place.links.end(link, NOW, b"f" * 32)
    ended = await place.links.dependant(link.dependant_id)
    assert ended == replace(link, seat=None, ended_at=NOW, ended_by=b"e" * 32)
    assert list(await place.links.seated(place.child.holder_id)) == []
    assert await place.links.links_of(guardian.holder_id, None, 10) == []
    assert await place.links.link(None, _link(other, place.child))
    again = replace(link, seat=1, version=2, linked_by=b"s" * 32, ended_by=b"e" * 32)
    assert not await place.links.link(ended, replace(again, seat=0))
    assert not await place.links.link(link, again)
    assert await place.links.link(ended, again)
    assert not await place.links.link(ended, again)
    assert await place.links.dependant(link.dependant_id) == again


async def test_a_person_is_found_in_their_household_only(place: Place) -> None:
    child = place.child
    assert await place.holders.in_household(child.id_number, REGISTER) == child
    assert await place.holders.in_household(child.id_number, "990054321") is None
    assert await place.holders.in_household(place.adults[0].id_number, REGISTER) == place.adults[0]
    nobody = replace(place.adults[0], holder_id=HolderId(new_id("hld")), id_number="1" * 18, household_register=None)
    await place.holders.put(nobody)
    assert await place.holders.holder(nobody.holder_id) == nobody
    assert await place.holders.in_household(nobody.id_number, REGISTER) is None


async def test_register_and_birthday_lie_in_no_document_in_plain(place: Place, vault: Vault) -> None:
    await place.link(place.adults[0], b"1")
    (link,) = await place.links.seated(place.child.holder_id)
    documents = [*place.raw.dependants.find(), *place.raw.holders.find(), *place.raw.accesses.find(), *place.raw.limits.find()]
    lying = b"".join(bson.encode(document) for document in documents)
    for secret in (REGISTER, link.until.isoformat(), f"{link.until:%Y%m%d}", place.child.id_number, place.child.name):
        assert secret.encode() not in lying
    holder = place.raw.holders.find_one({"_id": place.child.holder_id})
    assert holder is not None
    assert vault.open("holders", "householdRegister", place.child.holder_id, holder["householdRegister"]) == REGISTER
    with pytest.raises(VaultError):
        vault.open("holders", "householdRegister", place.adults[0].holder_id, holder["householdRegister"])


async def test_of_all_who_want_to_be_guardians_at_once_only_so_many_are(place: Place) -> None:
    results = await asyncio.gather(
        *(place.link(adult, bytes([number])) for number, adult in enumerate(place.adults)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, Refusal)]
    assert [type(result) for result in results if result not in refused] == [Linked] * MOST_GUARDIANS
    assert {(refusal.code, refusal.facts["reason"]) for refusal in refused} == {("dependant_not_linkable", "tooManyGuardians")}
    links = await place.links.seated(place.child.holder_id)
    assert sorted(link.seat or 0 for link in links) == list(range(MOST_GUARDIANS))
    out = next(link for link in links if link.seat == 1)
    await place.dependants.end(out.guardian_id, out.dependant_id, request=b"end", now=NOW)
    late = next(adult for adult, result in zip(place.adults, results, strict=True) if isinstance(result, Refusal))
    assert (await place.link(late, b"late")).link.seat == 1


async def test_links_that_ran_out_under_an_older_policy_are_in_nobodys_way(place: Place) -> None:
    yesterday = (NOW - timedelta(days=2)).date()
    for seat, adult in enumerate(place.adults[:MOST_GUARDIANS]):
        assert await place.links.link(None, _link(adult, place.child, seat=seat, until=yesterday))
    assert (await place.dependants.mine(place.adults[1].holder_id, None, 20, NOW)) == ([], None)
    fresh = await place.link(place.adults[-1], b"new")
    assert fresh.link.is_alive(NOW)
    own = await place.link(place.adults[1], b"own")
    assert (own.link.is_alive(NOW), own.link.version) == (True, 2)
    alive = [link for link in await place.links.seated(place.child.holder_id) if link.is_alive(NOW)]
    assert {link.guardian_id for link in alive} == {place.adults[-1].holder_id, place.adults[1].holder_id}


async def test_a_retry_finds_its_own_work_and_does_nothing_again(place: Place) -> None:
    guardian = place.adults[0]
    made = await place.link(guardian, b"link")
    await place.dependants.end(guardian.holder_id, made.link.dependant_id, request=b"end", now=NOW)
    # The link's answer was lost and comes late; meanwhile it was ended.
    assert (await place.link(guardian, b"link")).link.ended_by == b"end"
    assert (await place.link(guardian, b"anew")).link.version == 2
    # The end's answer was lost and comes late; meanwhile it was made anew.
    await place.dependants.end(guardian.holder_id, made.link.dependant_id, request=b"end", now=NOW)
    now_is = await place.links.dependant(made.link.dependant_id)
    assert now_is is not None
    assert now_is.is_alive(NOW)
    assert place.raw.accesses.count_documents({"holderId": place.child.holder_id}) == 3


async def test_without_a_register_nobody_is_linked(place: Place) -> None:
    for person in (place.adults[0], place.child):
        await place.holders.put(replace(person, household_register=None))
        with pytest.raises(Refusal) as refused:
            await place.link(place.adults[0], b"1")
        assert refused.value.code == "household_mismatch"
        await place.holders.put(person)
    assert (await place.link(place.adults[0], b"1")).name == place.child.name


async def test_pages_of_links_follow_one_another(place: Place) -> None:
    guardian = place.adults[0]
    children = [_person(number, CHILD_BORN, REGISTER) for number in range(301, 306)]
    for child in children:
        await place.holders.put(child)
        assert await place.links.link(None, _link(guardian, child))
    seen: list[str] = []
    after: str | None = None
    for size in (2, 2, 1):
        page, after = await place.dependants.mine(guardian.holder_id, after, 2, NOW)
        assert len(page) == size
        seen += [one.link.dependant_id for one in page]
    assert after is None
    assert seen == sorted(dependant_id_of(guardian.holder_id, child.holder_id) for child in children)
