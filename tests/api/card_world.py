"""The world in which histories of cards are played: the application, the people, and the model that must agree with it.

True here: after each step the card that it was about is looked at over HTTP, as its holder sees it, with history and diagnosis,
and held against the model (card_model.py). What was asked may be asked twice, under one key, and must be answered alike.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from api import card_model as model
from api.card_model import HOLDER, ApplicationModel, ApprovalModel, CardModel, No, Person, Who
from api.client import Api, Reply
from hypothesis.stateful import RuleBasedStateMachine, initialize

from service.ids import HolderId, OperatorId
from service.sandbox.personas import Staff, people
from service.server import Served

CAST = (
    *("sealed", "active", "temporarily-lost", "formally-lost", "locked", "cancelled", "not-delivered", "test-card"),
    *("minor", "two-generations"),
)
ADULT = ["card", "idCard"]
MINOR = ["card", "guardianIdCard", "householdRegister"]

T = TypeVar("T")


@dataclass
class World:
    """The application, and what the machine needs to act in it from its own thread."""

    served: Served
    api: Api
    loop: asyncio.AbstractEventLoop
    begun: list[CardModel] = field(default_factory=list)
    clients: dict[str, Api] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60)

    def now(self) -> datetime:
        return self.served.process.services.clock.now()

    async def client(self, key: str) -> Api:
        """Somebody who signed in since the clock was last moved, with tokens as the service gives them out."""
        services = self.served.process.services
        services.queries.forget()
        if key not in self.clients:
            self.clients[key] = await self._signed_in(key)
        return self.clients[key]

    async def _signed_in(self, key: str) -> Api:
        services = self.served.process.services
        for persona in services.sandbox().personas():
            if persona.key == key and isinstance(persona, Staff):
                operator = persona.operator
                grant = await services.sessions.open_staff(OperatorId(operator.operator_id), operator.role)
                return self.api.as_(grant.access_token)
        (person,) = [person for person in people(services.sandbox().personas()) if person.key == key]
        return self.api.as_((await services.sessions.open(HolderId(person.holder_id), "sms")).access_token)


class Watched(RuleBasedStateMachine):
    """What every history stands on: how it begins, how things are done, and what is looked at after each."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.cards: list[CardModel] = []
        self.approvals: list[ApprovalModel] = []
        self.applications: list[ApplicationModel] = []
        self.linked = True
        self.called: set[str] = set()
        self.years_passed = 0

    # How it begins and ends.

    @initialize()
    def reset(self) -> None:
        assert self.world.run(self.world.api.post("/sandbox/reset", {})).status == 200
        self.world.clients.clear()
        if not self.world.begun:
            self.world.begun = [*self._cast()]
        self.cards = [replace(card, history=[*card.history]) for card in self.world.begun]
        for card in self.cards:
            if card.status == "temporarilyLost":
                card.lost_until = self.world.now() + timedelta(days=card.policy.temporary_loss_days)

    def _cast(self) -> Iterator[CardModel]:
        """Everybody's cards as a reset leaves them."""
        for key in CAST:
            persona = self.world.run(self.world.api.persona(key))
            owner = Person(key, persona["name"], persona["idNumber"], persona["householdRegister"])
            for place, printed in enumerate(persona["cards"]):
                yield self._begun(owner, printed, persona["servicePin"] if place == 0 else None)

    def _begun(self, owner: Person, printed: dict[str, Any], pin: str | None) -> CardModel:
        seen, history, _ = self._look(owner.key, printed["cardId"])
        card = CardModel(
            card_id=printed["cardId"],
            owner=owner,
            region=seen["regionCode"],
            bank=seen["bank"]["code"],
            number=printed["cardNumber"],
            code=printed["identificationCode"],
            generation=seen["generation"],
            stage=seen["productionStage"],
            test=owner.key == "test-card",
            status=seen["status"],
            account=seen["functions"]["bank"]["status"],
            medical=seen["medicalAccount"],
            pin="",
            pin_state=seen["servicePin"]["state"],
            expires=date.fromisoformat(seen["expiresOn"]),
            activated_through=seen["functions"]["social"]["channel"],
            history=history,
        )
        card.pin = pin or card.first_pin()
        return card

    def teardown(self) -> None:
        for card in self.cards:
            self._check(card)

    # What is looked at.

    def _look(self, key: str, card_id: str) -> tuple[dict[str, Any], list[tuple[str, str, str, str]], dict[str, Any]]:
        async def look() -> list[Reply]:
            client, path = await self.world.client(key), f"/v1/cards/{card_id}"
            return await asyncio.gather(*(client.get(path + what) for what in ("", "/history?limit=100", "/diagnosis")))

        seen, history, diagnosis = (reply.json for reply in self.world.run(look()))
        assert not history["hasMore"]
        events = [(entry["event"], entry["from"], entry["to"], entry["channel"]) for entry in reversed(history["items"])]
        return seen, events, diagnosis

    def _check(self, card: CardModel) -> None:
        now = self.world.now()
        seen, history, diagnosis = self._look(card.owner.key, card.card_id)
        for path, told in model.facts(card, self.cards, now):
            shown: Any = seen
            for name in path.split("."):
                shown = shown[name]
            assert shown == told, (card.owner.key, path, card)
        assert history == card.history, card
        assert {action["action"]: action["allowed"] for action in seen["actions"]} == model.offered(card, HOLDER, now), card
        assert diagnosis["usable"] == (model.state_reason("checkPin", card, now) is None), card
        assert diagnosis["canActivate"] == (model.state_reason("activate", card, now) is None), card

    # How something is done.

    def _post(self, key: str, path: str, body: dict[str, Any], *, again: bool = False, keyed: bool = True) -> Reply:
        """What somebody asks; perhaps twice, because the first answer was lost on the way."""
        sign = secrets.token_hex(16) if keyed else None

        async def post() -> Reply:
            client = await self.world.client(key)
            reply = await client.post(path, body, key=sign)
            if again and keyed:
                second = await client.post(path, body, key=sign)
                # Who may not at all is told so before any key is looked at.
                assert reply.status >= 400 or second.headers["Idempotency-Replayed"] == "true"
                assert (second.status, _plain(second)) == (reply.status, _plain(reply))
            return reply

        reply = self.world.run(post())
        assert reply.status < 500, (key, path, body, reply.raw)
        return reply

    def _agrees(self, reply: Reply, card: CardModel, what: str, do: Callable[[], object]) -> Any:
        """The model does the same, and says the same when it says no."""
        came_of_it: object = None
        refused: No | None = None
        try:
            came_of_it = do()
        except No as no:
            refused = no
        context = (what, reply.status, reply.raw, card)
        self.world.done[f"no {what}" if refused else what] += 1
        if refused is None:
            assert reply.status in {200, 201, 202}, context
        else:
            told = reply.json
            assert (reply.status >= 400, told.get("code")) == (True, refused.code), context
            assert refused.reason in {None, told.get("reason")}, context
            assert {name: told[name] for name in refused.facts} == refused.facts, context
            if refused.code == "transition_not_allowed":
                assert told["from"] == card.status, context
                self._allowed_is_true(told["allowed"], card, what)
        self._check(card)
        return came_of_it

    @staticmethod
    def _allowed_is_true(allowed: list[str], card: CardModel, what: str) -> None:
        for action in allowed:
            assert card.status in model.MOVES[action][0] | model.IF_OVER.get(action, frozenset()), (what, action, card)

    def _card(self, pick: tuple[int, bool], action: str, who: Who = HOLDER) -> CardModel:
        """One of the cards; when it shall be possible, one with which the model says it is."""
        number, possible = pick
        now = self.world.now()
        fit = [card for card in self.cards if possible and model.is_possible(action, card, who, now)]
        return (fit or self.cards)[number % len(fit or self.cards)]

    def _shown(self, card: CardModel) -> list[str]:
        return MINOR if card.is_minor(self.world.now()) else ADULT

    def _guardian_there(self, card: CardModel, *, comes: bool) -> dict[str, Any]:
        """For a minor a guardian may come along; for nobody else."""
        if not comes or not card.is_minor(self.world.now()):
            return {}
        guardian = self.world.run(self.world.api.persona("guardian"))
        return {"guardian": {"idNumber": guardian["idNumber"], "householdRegister": guardian["householdRegister"]}}

    def _call_code(self, card: CardModel, ticket: str) -> str:
        """The code that a caller reads back."""

        async def call() -> str:
            client = await self.world.client("hotline")
            asked = {"idNumber": card.owner.id_number, "ticket": ticket}
            assert (await client.post("/v1/staff/hotline/codes", asked)).status == 200
            mobile = (await self.world.api.persona(card.owner.key))["mobile"]
            return await self.world.api.code_sent_to(mobile)

        self.called.add(card.owner.key)
        return self.world.run(call())


def _plain(reply: Reply) -> dict[str, Any]:
    return {name: value for name, value in reply.json.items() if name != "requestId"}
