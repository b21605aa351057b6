"""Approvals: what takes a second person, from asking to the change of the card.

True here: asking changes nothing on the card. One document write decides, and leaves word that the change is still to be
made; the change follows at once, or is made by the relay when the process died in between, and the approval's id marks it in
the card's history, so that it is made once. There is one pending approval for a card and an action. It runs out by the clock,
with no job that could be missed. Never here: who asked deciding, or a change that the table does not allow.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal, Protocol, get_args

from service.actors import COUNTERS, Actor, StaffRole
from service.cards import Card, CardStore
from service.changes import ROUNDS, CancelReason, Changes, Order
from service.clock import Clock
from service.desks import Desk
from service.errands import Errand
from service.errors import Refusal
from service.ids import ApprovalId, CardId, HolderId, InstitutionId, OperatorId, derived_id, is_id
from service.locale import Bilingual, Locale
from service.operators import Operator

# What may take a second person, by the name of the action.
Kind = Literal["cancel", "unlock", "reverseActivation"]
# `approved` is the decision; whether the change has been made already is `carried_out_at`. One that could not be made any
# more, because the card had changed, is `failed`.
State = Literal["pending", "approved", "rejected", "expired", "failed"]
Decision = Literal["approved", "rejected"]

LASTS: Final = timedelta(hours=24)
_CANCEL_REASONS: Final[Mapping[str, CancelReason]] = {reason: reason for reason in get_args(CancelReason)}


@dataclass(frozen=True, slots=True)
class Party:
    """An operator as they were when they asked or decided; what they may is judged as of then."""

    operator_id: OperatorId
    role: StaffRole
    name: str
    institution_id: InstitutionId
    institution_names: Bilingual
    region_codes: tuple[str, ...]

    def actor(self) -> Actor:
        """In what capacity they acted. Those who stand for a bank ask for no approval."""
        regions = frozenset(self.region_codes)
        return Actor(self.operator_id, self.role, COUNTERS.get(self.role), regions, self.institution_id, None)


@dataclass(frozen=True, slots=True)
class Decided:
    """A second person's word. `request` is the mark of the request that said it, so that its retry is known."""

    by: Party
    at: datetime
    note: str | None
    request: bytes


@dataclass(frozen=True, slots=True)
class Approval:
    """One thing that somebody asked to do with a card, and what became of it.

    `reason`: why, in the asker's words or as one of the action's own reasons; `decided`: none while it is pending;
    `carried_out_at`: when the card was changed; `failure`: a reason code when it could not be any more; `version` grows with
    every change and guards it.
    """

    approval_id: ApprovalId
    kind: Kind
    card_id: CardId
    holder_id: HolderId
    region_code: str
    stored_state: State
    reason: str | None
    locale: Locale
    asked_at: datetime
    asked_by: Party
    expires_at: datetime
    version: int
    decided: Decided | None = None
    carried_out_at: datetime | None = None
    failure: str | None = None

    def state(self, now: datetime) -> State:
        """The state at a moment: one that nobody has decided in time has run out without anybody having to end it."""
        return "expired" if self.stored_state == "pending" and self.expires_at <= now else self.stored_state


class ApprovalStore(Protocol):
    """Where approvals are kept."""

    async def approval(self, approval_id: ApprovalId) -> Approval | None:
        """One by id."""

    async def pending_for(self, card_id: CardId, kind: Kind) -> Approval | None:
        """The one for a card and an action that nobody has decided, also when it has run out."""

    async def add(self, approval: Approval) -> bool:
        """Keep a new one, unless it is there or another is pending for the same; whether it was kept."""

    async def expire(self, approval: Approval) -> None:
        """Write down that one has run out, if it is as it was read: another may then be pending for the same."""

    async def decide(self, before: Approval, after: Approval) -> Approval | None:
        """The one write, if it is as it was read; an approved one is then to be carried out. None when it is so no longer."""

    async def settle(self, before: Approval, after: Approval) -> bool:
        """Write down how carrying it out ended, and that it is no more to be done; whether nobody else had."""

    async def of_regions(
        self, region_codes: Collection[str], state: State | None, after: tuple[datetime, str] | None, limit: int, now: datetime
    ) -> list[Approval]:
        """Those for cards of these regions that are in a state at this moment, newest first, after one of them."""

    async def to_carry_out(self, limit: int) -> list[Approval]:
        """Some that are approved and not yet carried out."""


class Approvals:
    """Asking, deciding, and carrying out what was approved."""

    def __init__(self, *, store: ApprovalStore, cards: CardStore, changes: Changes, desk: Desk, clock: Clock) -> None:
        self._store = store
        self._cards = cards
        self._changes = changes
        self._desk = desk
        self._clock = clock

    async def asked_in(self, request: bytes) -> Approval | None:
        """What a keyed request has asked for already, when this is its retry."""
        return await self._store.approval(_id_of(request))

    async def ask(self, operator: Operator, kind: Kind, card: Card, reason: str | None, order: Order) -> Approval:
        """Ask for a second person; whoever asks for what is pending already gets that.

        Whether this operator may ask has been judged. Refuses with `unavailable` when others ask and decide all the time.
        """
        for _ in range(ROUNDS):
            now = self._clock.now()
            pending = await self._store.pending_for(card.card_id, kind)
            if pending is not None and pending.state(now) == "pending":
                return pending
            if pending is not None:
                await self._store.expire(pending)
            approval = Approval(
                approval_id=_id_of(order.request),
                kind=kind,
                card_id=card.card_id,
                holder_id=card.holder_id,
                region_code=card.region_code,
                stored_state="pending",
                reason=reason,
                locale=order.locale,
                asked_at=now,
                asked_by=_party(operator),
                expires_at=now + LASTS,
                version=1,
            )
            if await self._store.add(approval):
                return approval
            if known := await self._store.approval(approval.approval_id):
                return known
        raise Refusal("unavailable", retry_after=1)

    async def listed(
        self, operator: Operator, state: State | None, after: tuple[datetime, str] | None, limit: int
    ) -> tuple[list[Approval], tuple[datetime, str] | None]:
        """A page of the approvals in an operator's regions, newest first, and where the next begins."""
        regions = operator.institution.region_codes
        found = await self._store.of_regions(regions, state, after, limit + 1, self._clock.now())
        page = found[:limit]
        return page, (page[-1].asked_at, page[-1].approval_id) if len(found) > limit else None

    async def decide(
        self, operator: Operator, approval_id: str, decision: Decision, note: str | None, request: bytes
    ) -> Approval:
        """Approve or reject, once, as somebody else than who asked; what is approved is carried out at once.

        When that is not known to be done yet, the relay does it: the answer has no `carried_out_at` then. Refuses with
        `not_found`, `channel_not_allowed` (another region's), `forbidden` with reason `secondPersonRequired`,
        `approval_decided` and `approval_expired`.
        """
        word = Decided(_party(operator), self._clock.now(), note, request)
        approval = await self._decided(operator, approval_id, decision, word)
        try:
            return await self.carry_out(approval)
        except Refusal as refusal:
            if not refusal.transient:
                raise
            return approval

    async def _decided(self, operator: Operator, approval_id: str, decision: Decision, word: Decided) -> Approval:
        for _ in range(ROUNDS):
            approval = await self._store.approval(ApprovalId(approval_id)) if is_id("apr", approval_id) else None
            if approval is None:
                raise Refusal("not_found")
            if approval.decided is not None and approval.decided.request == word.request:
                return approval
            _permit(operator, approval, self._clock.now())
            await self._desk.write_down(
                approval.holder_id, operator, action=approval.kind, reason=decision, ticket=None, request=word.request
            )
            after = replace(approval, stored_state=decision, decided=word, version=approval.version + 1)
            if (changed := await self._store.decide(approval, after)) is not None:
                return changed
        raise Refusal("unavailable", retry_after=1)

    async def undone(self, limit: int) -> list[Errand]:
        """What was approved and not carried out, because a process died in between."""
        waiting = await self._store.to_carry_out(limit)
        return [Errand(approval.approval_id, partial(self.carry_out, approval)) for approval in waiting]

    async def carry_out(self, approval: Approval) -> Approval:
        """Change the card as was approved, once, however often this is called; one that was rejected changes nothing.

        A card that allows it no more makes the approval `failed`. Refuses with `unavailable` or `outcome_unknown` when it is
        not known to be done; it can then be called again.
        """
        if approval.stored_state != "approved" or approval.carried_out_at is not None or approval.decided is None:
            return approval
        order = Order(
            actor=approval.asked_by.actor(),
            request=approval.approval_id.encode(),
            locale=approval.locale,
            approved_by=approval.decided.by.operator_id,
        )
        failure = await self._failure(approval, order)
        settled = replace(approval, version=approval.version + 1)
        if failure is None:
            settled = replace(settled, carried_out_at=self._clock.now())
        else:
            settled = replace(settled, stored_state="failed", failure=failure)
        if await self._store.settle(approval, settled):
            return settled
        # Somebody else carried it out beside us, and has written down how it ended.
        return await self._store.approval(approval.approval_id) or settled

    async def _failure(self, approval: Approval, order: Order) -> str | None:
        """Make the change: None when it is made, else the reason why it cannot be made any more."""
        card = await self._cards.card(approval.card_id, approval.holder_id)
        if card is None:
            return "notFound"
        try:
            await self._change(approval, card, order)
        except Refusal as refusal:
            if refusal.transient:
                raise
            # Another process may have made this very change meanwhile; then that is what stands in the way.
            done = await self._cards.did(card, order.request)
            return None if done else str(refusal.facts.get("reason", refusal.code))
        return None

    async def _change(self, approval: Approval, card: Card, order: Order) -> Card:
        match approval.kind:
            case "cancel":
                return await self._changes.cancel(card, _CANCEL_REASONS[approval.reason or ""], order)
            case "unlock":
                return await self._changes.unlock(card, order)
            case "reverseActivation":
                return await self._changes.reverse_activation(card, order)


def _id_of(request: bytes) -> ApprovalId:
    """The same for the same request, so that its retry asks no second time."""
    return ApprovalId(derived_id("apr", request.hex()))


def _party(operator: Operator) -> Party:
    where = operator.institution
    return Party(
        operator_id=operator.operator_id,
        role=operator.role,
        name=operator.name,
        institution_id=where.institution_id,
        institution_names=where.names,
        region_codes=where.region_codes,
    )


def _permit(operator: Operator, approval: Approval, now: datetime) -> None:
    """Refuse who may not decide, and what cannot be decided any more."""
    if approval.region_code not in operator.institution.region_codes:
        raise Refusal("channel_not_allowed", {"channels": ["bureau"]})
    if approval.asked_by.operator_id == operator.operator_id:
        raise Refusal("forbidden", {"reason": "secondPersonRequired"})
    state = approval.state(now)
    if state == "expired":
        raise Refusal("approval_expired")
    if state != "pending":
        raise Refusal("approval_decided")
