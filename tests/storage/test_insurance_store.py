"""Insurance relations on a real database, and what follows from them when a process dies in between."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import bson
import pytest
from pymongo.errors import WriteError
from storage.conftest import Raw

from service.cards import Card, Happened, MedicalStatus, Pin, PinState
from service.clock import CHINA, Clock
from service.ids import HolderId, InstitutionId, OperatorId, RegistrationId, derived_id, new_id
from service.insurance import Cover, Ending, EndReason, Insurance, Relation, codes_of
from service.insurance_errands import InsuranceErrands
from service.limits import Limits
from service.locale import Bilingual
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.mongo.contacts import MongoContactStore
from service.mongo.holders import MongoAccessLogStore, MongoHolderStore
from service.mongo.insurance import MongoRelationStore
from service.mongo.limits import MongoLimitStore
from service.mongo.notifications import MongoMessageStore
from service.newcomers import Newcomers
from service.notifications import Notifications
from service.numbers import parse_resident_id
from service.operators import Institution, Operator
from service.regions import SHIPPED, Regions
from service.registrations import Filing, Hiring, Registrations, registration_id_of
from service.sandbox.invention import Inventor
from service.sandbox.personas import cast, people
from service.sandbox.records import card_records, holder_record
from service.vault import Vault

NOW = datetime.now(UTC).replace(microsecond=0)
TODAY = NOW.astimezone(CHINA).date()
REGIONS = Regions.load_directory(SHIPPED)
PEOPLE = {person.key: person for person in people(cast(REGIONS))}
EMPLOYER = Institution(
    InstitutionId(derived_id("ins", "store")), Bilingual("单位", "House"), "employer", ("990100",), None, "91990100MA00000000"
)
CLERK = Operator(OperatorId(derived_id("op", "store")), "clerk", "李假远", "employer", EMPLOYER, disabled=False)
FIVE = codes_of(frozenset(Insurance))


def relation(key: str, number: int = 1, **changes: Any) -> Relation:
    holder_id = PEOPLE[key].holder_id
    made = Relation(
        registration_id=registration_id_of(holder_id, EMPLOYER.institution_id, number),
        holder_id=holder_id,
        employer_id=EMPLOYER.institution_id,
        number=number,
        region_code="990100",
        covers=tuple(Cover(code, date(2026, 1, 5)) for code in FIVE),
        since=date(2026, 1, 5),
        registered_at=NOW,
        overdue_days=3,
        by=CLERK.operator_id,
        request=b"m" * 34,
        ending=None,
        version=1,
    )
    return replace(made, **changes)


def over(one: Relation, reason: EndReason = "emigration") -> Relation:
    return replace(one, ending=Ending(TODAY, NOW, CLERK.operator_id, reason))


def hirings(count: int) -> list[Hiring]:
    people = [Inventor(f"store/{number}") for number in range(count)]
    return [
        Hiring(one.name(), parse_resident_id(one.resident_id(born=date(1988, 8, 8)), today=TODAY), TODAY, FIVE)
        for one in people
    ]


@dataclass(frozen=True)
class House:
    """The stores, and the use cases on them."""

    relations: MongoRelationStore
    cards: MongoCardStore
    holders: MongoHolderStore
    registrations: Registrations
    errands: InsuranceErrands

    async def settle(self, key: str, count: int = 1) -> tuple[Card, ...]:
        """A persona with as many of their cards."""
        person = PEOPLE[key]
        await self.holders.put(holder_record(person, "hash"))
        records = card_records(person, REGIONS, NOW)[:count]
        for record in records:
            await self.cards.put(record.card, record.id_number, record.figures, record.history)
        return tuple(record.card for record in records)

    async def carry(self) -> int:
        """What a relay does with what is left to be done; how much there was."""
        works = await self.errands.undone(32)
        await asyncio.gather(*(work.do() for work in works))
        return len(works)


@pytest.fixture
async def house(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[House]:
    """With somebody else's relation, card and person there, which no test may change."""
    relations, cards = MongoRelationStore(own), MongoCardStore(own, vault)
    holders, log, clock = MongoHolderStore(own, vault), MongoAccessLogStore(own), Clock()
    notifications = Notifications(MongoMessageStore(own, vault), MongoContactStore(own, vault), REGIONS, clock)
    errands = InsuranceErrands(store=relations, cards=cards, holders=holders, notifications=notifications, clock=clock)
    registrations = Registrations(
        store=relations,
        people=holders,
        newcomers=Newcomers(holders, vault, bool),
        limits=Limits(MongoLimitStore(own), vault, clock),
        log=log,
        errands=errands,
        regions=REGIONS,
        clock=clock,
    )
    made = House(relations, cards, holders, registrations, errands)
    await made.settle("active")
    await relations.put(relation("active"))
    bystander = PEOPLE["active"].holder_id

    def beside() -> list[list[dict[str, Any]]]:
        whose = {"holderId": bystander}
        return [list(raw.insurance.find(whose)), list(raw.cards.find(whose)), list(raw.holders.find({"_id": bystander}))]

    before = beside()
    assert all(before)
    yield made
    assert beside() == before
    for name in ("insurance", "cards", "holders", "accesses", "messages", "limits"):
        raw[name].delete_many({})


async def test_a_relation_comes_back_as_it_was_kept(house: House) -> None:
    for made in (relation("sealed"), over(relation("sealed2")), relation("sealed3", employer_id=None)):
        assert await house.relations.add(made, "en")
        assert await house.relations.relation(made.registration_id) == made
        assert await house.relations.of_holder(made.holder_id) == [made]
    assert await house.relations.relation(RegistrationId(new_id("reg"))) is None
    assert await house.relations.of_holder(HolderId(new_id("hld"))) == []


async def test_relations_of_a_person_come_newest_first(house: House) -> None:
    made = [relation("sealed", number, registered_at=NOW + timedelta(days=number)) for number in (2, 1, 3)]
    for one in made:
        assert await house.relations.add(one, "en")
    assert [one.number for one in await house.relations.of_holder(made[0].holder_id)] == [3, 2, 1]


async def test_of_many_that_add_the_same_one_does(house: House, second: Database) -> None:
    other = MongoRelationStore(second)
    made = [relation("sealed", by=f"op_{n}") for n in range(20)]
    added = await asyncio.gather(*((house.relations, other)[n % 2].add(one, "en") for n, one in enumerate(made)))
    assert added.count(True) == 1
    assert await house.relations.relation(made[0].registration_id) == made[added.index(True)]


async def test_of_many_changes_to_what_was_read_one_is_made(house: House, second: Database) -> None:
    other, read = MongoRelationStore(second), relation("sealed")
    await house.relations.add(read, "en")
    wanted = [replace(over(read), covers=read.covers[: n % 5 + 1]) for n in range(10)]
    outcomes = await asyncio.gather(*((house.relations, other)[n % 2].change(read, one, "en") for n, one in enumerate(wanted)))
    (done,) = [outcome for outcome in outcomes if outcome is not None]
    assert done == replace(wanted[outcomes.index(done)], version=2)
    assert await house.relations.relation(read.registration_id) == done
    assert await house.relations.change(read, wanted[0], "en") is None


async def test_news_waits_until_it_is_taken_off(house: House) -> None:
    made = relation("sealed")
    await house.relations.add(made, "en")
    ended = await house.relations.change(made, over(made), "zh-CN")
    assert ended is not None
    waiting = sorted(await house.relations.news(10), key=lambda news: news.news_id)
    assert [(news.name, news.locale, news.relation) for news in waiting] == [
        ("registered", "en", ended),
        ("ended", "zh-CN", ended),
    ]
    for _ in range(2):
        await house.relations.carried(waiting[0])
        assert await house.relations.news(10) == waiting[1:]
    assert await house.relations.relation(made.registration_id) == ended


async def test_nothing_that_says_who_somebody_is_lies_there(house: House, raw: Raw) -> None:
    (row,) = hirings(1)
    await house.registrations.register_employees(Filing(CLERK, b"k" * 32, "en"), None, [row])
    for name in ("insurance", "holders", "accesses"):
        for document in raw[name].find():
            lying = bson.encode(document)
            assert row.name.encode() not in lying
            assert row.id_number.number.encode() not in lying


@pytest.mark.parametrize(
    "wrong",
    [
        {"holderId": "张伟"},
        {"employerId": "somebody"},
        {"since": "2026-1-5"},
        {"covers": []},
        {"covers": [{"code": "999", "since": "2026-01-05"}]},
        {"overdueDays": -1},
        {"ending": {"on": "2026-01-05"}},
        {"name": "张伟"},
        {"registeredAt": "2026-01-05"},
        {"request": "plain"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_the_database_refuses_a_relation_that_is_not_whole(house: House, raw: Raw, wrong: dict[str, Any]) -> None:
    made = relation("sealed")
    await house.relations.add(over(made), "en")
    good = raw.insurance.find_one({"_id": made.registration_id})
    assert good is not None
    with pytest.raises(WriteError):
        raw.insurance.replace_one({"_id": made.registration_id}, good | wrong)
    for name in good.keys() - {"_id"}:
        with pytest.raises(WriteError):
            raw.insurance.update_one({"_id": made.registration_id}, {"$unset": {name: 1}})
    assert raw.insurance.find_one({"_id": made.registration_id}) == good


# Registering, when something breaks in the middle.


async def test_a_retry_after_a_crash_in_the_middle_gives_the_same_ids(house: House, raw: Raw) -> None:
    rows, filing = hirings(12), Filing(CLERK, b"k" * 32, "en")
    # The same rows twice in one request: the retry tells its own rows from each other.
    rows[7] = rows[2]
    first = await house.registrations.register_employees(filing, None, rows[:5])
    whole = await house.registrations.register_employees(filing, None, rows)
    assert whole[:5] == first
    assert [answer.result for answer in whole] == ["alreadyRegistered" if n == 7 else "registered" for n in range(12)]
    assert whole[7].registration_id == whole[2].registration_id
    again = await house.registrations.register_employees(filing, None, rows)
    assert again == whole
    assert raw.insurance.count_documents({"employerId": EMPLOYER.institution_id, "by": CLERK.operator_id}) == 11 + 1
    assert raw.accesses.count_documents({}) == 12
    other = await house.registrations.register_employees(replace(filing, request=b"o" * 32), None, rows)
    assert {answer.result for answer in other} == {"alreadyRegistered"}
    assert [answer.registration_id for answer in other] == [answer.registration_id for answer in whole]


async def test_a_retry_finds_its_own_work_also_when_it_has_ended_since(house: House) -> None:
    rows, filing = hirings(1), Filing(CLERK, b"k" * 32, "en")
    (first,) = await house.registrations.register_employees(filing, None, rows)
    assert first.registration_id is not None
    await house.registrations.end_employment(filing, first.registration_id, TODAY, "employmentEnded")
    assert await house.registrations.register_employees(filing, None, rows) == [first]


async def test_whoever_registers_a_stranger_at_the_same_instant_makes_one_person(house: House, raw: Raw) -> None:
    (row,) = hirings(1)
    houses = [replace(EMPLOYER, institution_id=InstitutionId(derived_id("ins", str(n)))) for n in range(10)]
    # Half of them in another region: the person is one, and where they were first seen.
    houses = [replace(one, region_codes=("990100",) if n % 2 else ("990200",)) for n, one in enumerate(houses)]
    filings = [Filing(replace(CLERK, institution=one), bytes([n]) * 32, "en") for n, one in enumerate(houses)]
    answers = await asyncio.gather(*(house.registrations.register_employees(one, None, [row]) for one in filings))
    assert {answer[0].result for answer in answers} == {"registered"}
    holder = await house.holders.holder_by_number(row.id_number.number)
    assert holder is not None
    assert raw.holders.count_documents({}) == 1 + 1
    assert len(await house.relations.of_holder(holder.holder_id)) == 10


# What follows, when a process died before it came to it.


async def test_the_relay_pays_out_what_a_process_that_died_has_not(house: House, raw: Raw) -> None:
    cards = await house.settle("two-generations", 2)
    made = relation("two-generations")
    await house.relations.add(made, "en")
    assert await house.carry() == 1
    # The deciding write, and nothing after it.
    assert await house.relations.change(made, over(made), "en") is not None
    works = await house.errands.undone(32)
    for _ in range(3):
        await asyncio.gather(*(work.do() for work in works for _ in range(3)))
    for card in cards:
        after = await house.cards.card(card.card_id, card.holder_id)
        assert after == replace(card, stored_medical=MedicalStatus.CLOSED, version=card.version + 1)
        history = await house.cards.history(card.card_id, card.holder_id)
        assert history is not None
        assert [entry.happening for entry in history].count("medicalPaidOut") == 1
    assert await house.carry() == 0
    assert raw.messages.count_documents({"template": "insurance_ended"}) == 1


async def test_an_account_that_was_never_opened_or_is_frozen_by_its_insurer_is_not_paid_out(house: House) -> None:
    (card,) = await house.settle("sealed")
    made = relation("sealed")
    await house.relations.add(made, "en")
    (record,) = card_records(PEOPLE["sealed"], REGIONS, NOW)
    for stored in (MedicalStatus.UNOPENED, MedicalStatus.FROZEN):
        kept = replace(card, stored_medical=stored)
        await house.cards.put(kept, record.id_number, record.figures, record.history)
        await house.relations.put(over(made))
        await house.errands.settle(card.holder_id, "en")
        assert await house.cards.card(card.card_id, card.holder_id) == kept


async def test_an_account_is_paid_out_whatever_else_happens_to_the_card(house: House) -> None:
    (card,) = await house.settle("frozen-medical")
    await house.relations.put(over(relation("frozen-medical")))

    async def change(number: int) -> None:
        # Each by a request of its own, which is how a change knows itself again.
        request = number.to_bytes(32, "big")
        what = Happened("pinChanged", NOW, "bureau", CLERK.operator_id, None, request, card.holder_id, "en")
        done = None
        while done is None:
            read = await house.cards.card(card.card_id, card.holder_id)
            assert read is not None
            done = await house.cards.change(read, replace(read, pin=Pin(PinState.SET, number)), what)

    settled, *_ = await asyncio.gather(house.errands.settle(card.holder_id, "en"), *(change(number) for number in range(1, 4)))
    assert settled
    after = await house.cards.card(card.card_id, card.holder_id)
    assert after is not None
    assert after.stored_medical is MedicalStatus.CLOSED
    assert after.version == card.version + 1 + 3
    assert after.pin.wrong_tries > 0


async def test_the_relay_ends_what_somebody_had_of_their_own(house: House, raw: Raw) -> None:
    await house.settle("sealed")
    holder_id = PEOPLE["sealed"].holder_id
    own = relation("sealed", employer_id=None, registration_id=registration_id_of(holder_id, None, 1))
    own = replace(own, covers=tuple(Cover(code, own.since) for code in ("110", "310")))
    await house.relations.add(own, "en")
    hired = relation("sealed", since=date(2026, 3, 1))
    await house.relations.add(hired, "en")
    while await house.carry():
        pass
    after = await house.relations.relation(own.registration_id)
    assert after is not None
    assert after.ending is not None
    assert (after.ending.reason, after.ending.on) == ("employed", hired.since)
    assert (await house.relations.relation(hired.registration_id)) == hired
    templates = sorted(document["template"] for document in raw.messages.find())
    assert templates == ["insurance_registered", "insurance_self_registered"]


async def test_whoever_has_died_insures_themselves_no_longer(house: House) -> None:
    (card,) = await house.settle("sealed")
    holder_id = PEOPLE["sealed"].holder_id
    own = relation("sealed", employer_id=None, registration_id=registration_id_of(holder_id, None, 1))
    await house.relations.put(replace(own, covers=own.covers[:1]))
    hired = relation("sealed")
    await house.relations.put(replace(hired, covers=hired.covers[3:]))
    read = await house.relations.relation(hired.registration_id)
    assert read is not None
    await house.relations.change(read, over(read, "death"), "en")
    assert await house.carry() >= 1
    after = await house.relations.relation(own.registration_id)
    assert after is not None
    assert after.ending is not None
    assert (after.ending.reason, after.ending.on) == ("death", TODAY)
    closed = await house.cards.card(card.card_id, card.holder_id)
    assert closed is not None
    assert closed.stored_medical is MedicalStatus.CLOSED
