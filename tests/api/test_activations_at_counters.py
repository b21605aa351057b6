"""The one way of activating, as every channel takes it: who may, for whom, with which functions, and exactly once."""

import asyncio
from dataclasses import replace

import pytest
from api.client import Api

from service.activations import Activated, Activations, Function
from service.actors import COUNTERS, Actor, StaffRole
from service.cards import Card
from service.changes import Order
from service.errors import Refusal
from service.ids import CardId, HolderId, new_id
from service.numbers import ResidentId
from service.regions import Category
from service.sandbox.personas import people
from service.server import Served

SOCIAL: frozenset[Function] = frozenset({"social"})
BOTH: frozenset[Function] = frozenset({"social", "bank"})


def by(role: StaffRole, *, region: str = "990100", bank: str = "B901", guardian: HolderId | None = None) -> Order:
    actor = Actor("op_x", role, COUNTERS.get(role), frozenset({region}), "ins_x", bank if role == "bankTeller" else None)
    return Order(actor, new_id("req").encode(), "en", guardian)


class Counter:
    """A counter where personas show up with their cards."""

    def __init__(self, served: Served) -> None:
        self.services = served.process.services
        self.people = {person.key: person for person in people(self.services.sandbox().personas())}

    @property
    def activations(self) -> Activations:
        return self.services.activations

    async def card(self, key: str) -> tuple[Card, ResidentId]:
        person = self.people[key]
        return await self.services.cards.one(person.cards[0].card_id), person.id_number

    async def activate(
        self, key: str, order: Order, functions: frozenset[Function] = SOCIAL, category: Category = "adult"
    ) -> Activated:
        card, id_number = await self.card(key)
        return await self.activations.perform(card, id_number, order, category=category, functions=functions)

    async def refusal(self, key: str, order: Order, functions: frozenset[Function] = SOCIAL) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.activate(key, order, functions)
        return caught.value


@pytest.fixture
def counter(api: Api, served: Served) -> Counter:
    del api
    return Counter(served)


@pytest.mark.parametrize("role", COUNTERS)
async def test_every_counter_activates_and_the_card_says_where(counter: Counter, role: StaffRole) -> None:
    done = await counter.activate("sealed", by(role))
    assert (done.result, done.activation.channel, done.activation.by) == ("activated", COUNTERS[role], "op_x")
    again = await counter.activate("sealed", by(role))
    assert (again.result, again.activation) == ("alreadyActivated", done.activation)
    entries = await counter.services.cards.history(
        counter.people["sealed"].holder_id, counter.people["sealed"].cards[0].card_id
    )
    assert [(entry.happening, entry.channel) for entry in entries] == [("activated", COUNTERS[role])]


async def test_a_bank_activates_the_account_too_and_only_on_its_own_cards(counter: Counter) -> None:
    for order in (by("bankTeller", bank="B902"), by("hospitalClerk"), by("bureauClerk")):
        assert (await counter.refusal("sealed", order, BOTH)).code == "channel_not_allowed"
    assert (await counter.card("sealed"))[0].version == 0
    done = await counter.activate("sealed", by("bankTeller"), BOTH)
    assert (done.result, done.card.bank.status) == ("activated", "active")
    card, _ = await counter.card("sealed")
    assert (card, card.version) == (done.card, 1)


async def test_a_card_that_was_activated_online_gets_its_account_at_the_bank(counter: Counter, api: Api) -> None:
    client = await api.sign_in("sealed")
    online = await client.activate(await api.details("sealed"))
    order = by("bankTeller")
    done = await counter.activate("sealed", order, BOTH)
    assert (done.result, done.activation.activation_id) == ("alreadyActivated", online.json["activationId"])
    assert done.card.bank.status == "active"
    again = await counter.activate("sealed", order, BOTH)
    assert again.card == done.card
    events = [entry["event"] for entry in (await client.get(f"/v1/cards/{online.json['cardId']}/history")).json["items"]]
    assert events == ["bankActivated", "activated"]


async def test_a_minor_comes_with_a_guardian_who_is_named_and_told(counter: Counter, api: Api) -> None:
    guardian, client = counter.people["guardian"], await api.sign_in("guardian")
    assert (await counter.refusal("minor", by("bureauClerk"))).code == "guardian_required"
    done = await counter.activate("minor", by("bureauClerk", guardian=guardian.holder_id), category="minor")
    assert (done.activation.by, done.activation.guardian) == ("op_x", guardian.holder_id)
    assert (
        await counter.refusal("unlinked-minor", by("hotlineAgent", guardian=guardian.holder_id))
    ).code == "channel_not_allowed"
    counter.services.relay.wake()
    assert [message["template"] for message in await api.messages(guardian.mobile)].count("card_activated") == 1
    assert (await client.get(f"/v1/activations/{done.activation.activation_id}")).status == 200


async def test_a_counter_serves_the_regions_of_its_institution_and_no_others(counter: Counter) -> None:
    """However interconnected: that is about where a resident is insured."""
    for key, region in (("not-interconnected", "990100"), ("sealed", "990300"), ("sealed", "990200")):
        assert (await counter.refusal(key, by("bureauClerk", region=region))).code == "channel_not_allowed"
    assert (await counter.activate("not-interconnected", by("bureauClerk", region="990300"))).result == "activated"


@pytest.mark.parametrize("role", ["employer", "production"])
async def test_who_stands_behind_no_counter_activates_nothing(counter: Counter, role: StaffRole) -> None:
    assert (await counter.refusal("sealed", by(role))).code == "channel_not_allowed"


async def test_counters_and_the_app_at_once_activate_once(counter: Counter, api: Api) -> None:
    client = await api.sign_in("sealed")
    details = await api.details("sealed")
    card, id_number = await counter.card("sealed")
    orders = [by(role) for role in COUNTERS for _ in range(10)]
    done, replies = await asyncio.gather(
        asyncio.gather(*(counter.activations.perform(card, id_number, order, category="adult") for order in orders)),
        asyncio.gather(*(client.activate(details) for _ in range(10))),
    )
    results = [one.result for one in done] + [reply.json["result"] for reply in replies]
    ids = {one.activation.activation_id for one in done} | {reply.json["activationId"] for reply in replies}
    assert (results.count("activated"), results.count("alreadyActivated"), len(ids)) == (1, len(results) - 1, 1)
    assert (await counter.card("sealed"))[0].version == 1


async def test_a_reversed_activation_is_followed_by_another_of_its_own(counter: Counter, api: Api) -> None:
    client = await api.sign_in("sealed")
    first = await counter.activate("sealed", by("hospitalClerk"))
    approved = replace(by("bureauClerk"), approved_by="op_second")
    sealed = await counter.services.changes.reverse_activation(first.card, approved)
    assert sealed.status(counter.services.clock.now()) == "sealed"
    assert (await client.get(f"/v1/activations/{first.activation.activation_id}")).code == "not_found"
    second = await client.activate(await api.details("sealed"))
    assert second.json["result"] == "activated"
    assert second.json["activationId"] != first.activation.activation_id
    assert CardId(second.json["cardId"]) == first.card.card_id
