"""What a city said last, and newer figures on cards, on a real database; and how many questions are out at once."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import bson
import pytest
from pymongo.errors import WriteError
from storage.conftest import Raw, activate

from service.balances import Account, Figure
from service.cards import Activation, Status
from service.clock import Clock
from service.errors import Refusal
from service.gateways.absent import AbsentUpstream
from service.gateways.upstream import UpstreamAway, Whose
from service.holders import Holder
from service.housing_funds import HousingFund
from service.ids import ActivationId, CardId, HolderId, new_id
from service.last_known import KEPT, Kept, LastKnown, Shown
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.mongo.figures import MongoFigureStore
from service.mongo.holders import MongoHolderStore
from service.mongo.last_known import MongoLastKnownStore
from service.regions import SHIPPED, Regions
from service.sandbox.personas import cast, people
from service.sandbox.records import CardRecord, card_records
from service.upstream import MOST_QUESTIONS, Upstream
from service.upstream_documents import housing_fund_document, read_housing_fund
from service.vault import Vault

NOW = datetime.now(UTC).replace(microsecond=0)
REGIONS = Regions.load_directory(SHIPPED)
PEOPLE = {person.key: person for person in people(cast(REGIONS))}
SECRET = b'{"number": "990012344711"}'


def kept(holder_id: HolderId, hours_ago: int = 0, document: bytes = SECRET) -> Kept:
    return Kept(holder_id, "housingFund", NOW - timedelta(hours=hours_ago), NOW, NOW + KEPT, document)


# Documents.


async def test_what_was_kept_is_found_again_and_only_where_it_belongs(own: Database, vault: Vault) -> None:
    store, mine, other = MongoLastKnownStore(own, vault), HolderId(new_id("hld")), HolderId(new_id("hld"))
    assert await store.last_known(mine, "housingFund") is None
    await store.keep(kept(mine))
    await store.keep(kept(other, document=b"other"))
    assert await store.last_known(mine, "housingFund") == kept(mine)
    assert await store.last_known(mine, "contributions") is None
    assert await store.last_known(other, "housingFund") == kept(other, document=b"other")


async def test_a_newer_one_takes_the_place_of_an_older_and_never_the_other_way_round(own: Database, vault: Vault) -> None:
    store, mine = MongoLastKnownStore(own, vault), HolderId(new_id("hld"))
    order = [5, 3, 9, 0, 7, 0, 4]
    await asyncio.gather(*(store.keep(kept(mine, hours, str(hours).encode())) for hours in order))
    found = await store.last_known(mine, "housingFund")
    assert found is not None
    assert (found.as_of, found.document) == (NOW, b"0")
    await store.keep(kept(mine, 1, b"older"))
    assert await store.last_known(mine, "housingFund") == found


async def test_a_document_lies_sealed_and_opens_in_its_own_place_alone(own: Database, vault: Vault, raw: Raw) -> None:
    store, mine, other = MongoLastKnownStore(own, vault), HolderId(new_id("hld")), HolderId(new_id("hld"))
    await store.keep(kept(mine))
    await store.keep(kept(other))
    documents = {one["holderId"]: one for one in raw.last_known.find({"holderId": {"$in": [mine, other]}})}
    assert b"990012344711" not in bson.encode(documents[mine])
    raw.last_known.update_one({"_id": documents[mine]["_id"]}, {"$set": {"document": documents[other]["document"]}})
    with pytest.raises(Exception, match="does not belong here"):
        await store.last_known(mine, "housingFund")


async def test_a_document_of_another_shape_is_refused_by_the_database(own: Database, vault: Vault, raw: Raw) -> None:
    store, mine = MongoLastKnownStore(own, vault), HolderId(new_id("hld"))
    await store.keep(kept(mine))
    for change in ({"document": "plain"}, {"balanceFen": 1}, {"question": "salary"}):
        with pytest.raises(WriteError):
            raw.last_known.update_one({"holderId": mine}, {"$set": change})


async def test_what_is_kept_passes_by_itself(raw: Raw) -> None:
    assert raw.last_known.index_information()["expiry"]["expireAfterSeconds"] == 3600


async def test_a_document_that_this_version_cannot_read_is_not_known_and_no_fault_of_the_service(
    own: Database, vault: Vault
) -> None:
    holders, store = MongoHolderStore(own, vault), MongoLastKnownStore(own, vault)
    holder = Holder(HolderId(new_id("hld")), "李假远", new_id("no"), "", "990100", None, None)
    await holders.put(holder)
    funds = LastKnown(
        "housingFund",
        read_housing_fund,
        housing_fund_document,
        upstream=Upstream(AbsentUpstream(), holders, Clock(), seconds=1),
        store=store,
        holders=holders,
        regions=REGIONS,
        clock=Clock(),
    )
    for document in (b"{}", housing_fund_document(HousingFund("centre", NOW, None), Whose(holder.holder_id, "another"))):
        await store.keep(kept(holder.holder_id, document=document))
        with pytest.raises(Refusal) as refused:
            await funds.of(holder.holder_id)
        assert refused.value.code == "unavailable"
    right = HousingFund("centre", NOW, None)
    await store.keep(kept(holder.holder_id, document=housing_fund_document(right, Whose(holder.holder_id, holder.id_number))))
    assert await funds.of(holder.holder_id) == Shown(right, stale=True)


# Figures.


def a_card(key: str = "sealed") -> CardRecord:
    """A persona's card under ids of its own."""
    record = card_records(PEOPLE[key], REGIONS, NOW)[0]
    card_id = CardId(new_id("card"))
    # A number is unique in its region.
    number = card_id[5:13].upper()
    return replace(record, card=replace(record.card, card_id=card_id, holder_id=HolderId(new_id("hld")), number=number))


async def put(own: Database, vault: Vault, record: CardRecord) -> MongoCardStore:
    store = MongoCardStore(own, vault)
    await store.put(record.card, record.id_number, record.figures, record.history)
    return store


def newer(record: CardRecord) -> list[Figure]:
    return [figure._replace(balance_fen=7, as_of=NOW) for figure in record.figures]


async def test_newer_figures_take_the_place_of_older_ones_on_every_card_of_somebody(
    own: Database, vault: Vault, raw: Raw
) -> None:
    first, stranger = a_card(), a_card("active")
    second = replace(a_card(), card=replace(a_card().card, holder_id=first.card.holder_id))
    store = await put(own, vault, first)
    for record in (second, stranger):
        await put(own, vault, record)
    bystander = raw.cards.find_one({"_id": stranger.card.card_id})
    before = raw.cards.find_one({"_id": first.card.card_id})
    await MongoFigureStore(own).bring(first.card.holder_id, newer(first))
    for record in (first, second):
        balance = await store.balance(record.card.card_id, first.card.holder_id)
        assert balance is not None
        assert balance.figures == tuple(newer(first))
    after = raw.cards.find_one({"_id": first.card.card_id})
    assert before is not None
    assert after is not None
    assert {name for name in after if after[name] != before[name]} == {"accounts"}
    assert raw.cards.find_one({"_id": stranger.card.card_id}) == bystander


async def test_older_figures_change_nothing_and_each_account_is_judged_by_itself(own: Database, vault: Vault) -> None:
    record = a_card()
    store, figures = await put(own, vault, record), MongoFigureStore(own)
    holder_id = record.card.holder_id
    medical, pension, housing = record.figures
    await figures.bring(
        holder_id, [one._replace(balance_fen=1, as_of=one.as_of - timedelta(hours=1)) for one in record.figures]
    )
    await figures.bring(holder_id, [one._replace(balance_fen=1) for one in record.figures])
    await figures.bring(holder_id, [])
    balance = await store.balance(record.card.card_id, holder_id)
    assert balance is not None
    assert balance.figures == record.figures
    brought = pension._replace(balance_fen=2, as_of=NOW)
    await figures.bring(holder_id, [brought, medical._replace(balance_fen=2, as_of=medical.as_of - timedelta(days=1))])
    balance = await store.balance(record.card.card_id, holder_id)
    assert balance is not None
    assert balance.figures == (medical, brought, housing)


async def test_a_card_without_figures_gets_them(own: Database, vault: Vault) -> None:
    record = replace(a_card(), figures=())
    store = await put(own, vault, record)
    figure = Figure(Account.PENSION, 5, "normal", NOW, "bureau")
    await MongoFigureStore(own).bring(record.card.holder_id, [figure])
    balance = await store.balance(record.card.card_id, record.card.holder_id)
    assert balance is not None
    assert balance.figures == (figure,)


async def test_figures_and_an_activation_at_once_are_both_there(own: Database, second: Database, vault: Vault) -> None:
    for number in range(10):
        record = a_card()
        store, holder_id = await put(own, vault, record), record.card.holder_id
        activation = Activation(ActivationId(new_id("act")), NOW, "app", holder_id, b"r" * 32)
        rounds = [
            figure._replace(as_of=NOW + timedelta(seconds=n), balance_fen=n) for n in range(4) for figure in record.figures
        ]
        activated, *_ = await asyncio.gather(
            activate(store, record.card, activation),
            *(MongoFigureStore(second if number % 2 else own).bring(holder_id, rounds[at : at + 3]) for at in (0, 3, 6, 9)),
        )
        assert activated is not None
        card, balance = await store.card(record.card.card_id, holder_id), await store.balance(record.card.card_id, holder_id)
        assert card is not None
        assert balance is not None
        assert (card.stored_status, card.version) == (Status.ACTIVE, record.card.version + 1)
        # The newest of all that were brought, however they came.
        assert {figure.balance_fen for figure in balance.figures} == {3}


# Questions.


class Silent:
    """A city that takes questions and answers none until it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.speak = asyncio.Event()

    def refreshes(self, holder_id: HolderId) -> bool:
        return bool(holder_id)

    async def figures(self, whose: Whose) -> bytes:
        self.asked.append(whose.holder_id)
        await self.speak.wait()
        return whose.holder_id.encode()

    async def contributions(self, whose: Whose) -> bytes:
        return await self.figures(whose)

    async def housing_fund(self, whose: Whose) -> bytes:
        return await self.figures(whose)


@pytest.fixture
async def crowd(own: Database, vault: Vault) -> list[HolderId]:
    """So many people that not all can be asked about at once."""
    store = MongoHolderStore(own, vault)
    holders = [
        Holder(HolderId(new_id("hld")), "李假远", new_id("no"), "", "990100", None, None) for _ in range(MOST_QUESTIONS + 6)
    ]
    await asyncio.gather(*(store.put(holder) for holder in holders))
    return [holder.holder_id for holder in holders]


@pytest.fixture
async def city() -> Silent:
    return Silent()


async def taken(document: bytes, whose: Whose) -> str:
    assert document.decode() == whose.holder_id
    return document.decode()


async def test_so_many_questions_are_out_at_once_and_the_next_is_not_waited_for(
    own: Database, vault: Vault, crowd: list[HolderId], city: Silent
) -> None:
    upstream = Upstream(city, MongoHolderStore(own, vault), Clock(), seconds=5)
    readers = [asyncio.create_task(upstream.ask("figures", whose, taken, 5)) for whose in crowd for _ in range(2)]
    await asyncio.sleep(0.3)
    refused = [reader for reader in readers if reader.done()]
    assert all(isinstance(reader.exception(), UpstreamAway) for reader in refused)
    assert len(refused) == 12
    assert len(city.asked) == len(set(city.asked)) == MOST_QUESTIONS
    city.speak.set()
    answers = await asyncio.gather(*readers, return_exceptions=True)
    assert sum(isinstance(answer, str) for answer in answers) == 2 * MOST_QUESTIONS
    assert await upstream.ask("figures", crowd[-1], taken, 5) == crowd[-1]


async def test_an_answer_that_nobody_waits_for_any_more_is_taken_all_the_same(
    own: Database, vault: Vault, crowd: list[HolderId], city: Silent
) -> None:
    upstream = Upstream(city, MongoHolderStore(own, vault), Clock(), seconds=5)
    late: list[str] = []

    async def take(document: bytes, whose: Whose) -> None:
        late.append(await taken(document, whose))

    with pytest.raises(UpstreamAway):
        await upstream.ask("figures", crowd[0], take, 0.05)
    city.speak.set()
    async with asyncio.timeout(2):
        while not late:
            await asyncio.sleep(0.01)
    assert late == [crowd[0]]


async def test_a_process_that_stops_leaves_no_question_behind(
    own: Database, vault: Vault, crowd: list[HolderId], city: Silent
) -> None:
    upstream = Upstream(city, MongoHolderStore(own, vault), Clock(), seconds=5)
    owner = asyncio.create_task(upstream.run())
    reader = asyncio.create_task(upstream.ask("figures", crowd[0], taken, 5))
    await asyncio.sleep(0.2)
    owner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owner
    with pytest.raises(UpstreamAway):
        await reader


async def test_with_no_city_connected_no_old_figure_is_asked_for(own: Database, vault: Vault) -> None:
    upstream = Upstream(AbsentUpstream(), MongoHolderStore(own, vault), Clock(), seconds=5)
    assert not upstream.refreshes(PEOPLE["active"].holder_id)
