import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from storage.conftest import Raw

from service.approvals import LASTS, Approval, Decided, Decision, Party
from service.ids import ApprovalId, CardId, HolderId, InstitutionId, OperatorId, derived_id
from service.locale import Bilingual
from service.mongo.approvals import MongoApprovalStore
from service.mongo.client import Database
from service.vault import Vault, VaultError

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def _party(key: str) -> Party:
    return Party(
        operator_id=OperatorId(derived_id("op", key)),
        role="bureauClerk",
        name=f"name of {key}",
        institution_id=InstitutionId(derived_id("ins", "bureau")),
        institution_names=Bilingual("局", "bureau"),
        region_codes=("990100", "990200"),
    )


def approval(key: str = "a", *, region: str = "990100", at: datetime = NOW) -> Approval:
    return Approval(
        approval_id=ApprovalId(derived_id("apr", key)),
        kind="cancel",
        card_id=CardId(derived_id("card", key)),
        holder_id=HolderId(derived_id("hld", key)),
        region_code=region,
        stored_state="pending",
        reason="death",
        locale="en",
        asked_at=at,
        asked_by=_party("clerk"),
        expires_at=at + LASTS,
        version=1,
    )


def decided(before: Approval, state: Decision = "approved", request: bytes = b"r" * 32) -> Approval:
    word = Decided(_party("supervisor"), NOW + HOUR, "so it is", request)
    return replace(before, stored_state=state, decided=word, version=before.version + 1)


@pytest.fixture
async def store(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[MongoApprovalStore]:
    """A store with somebody else's approval in it, which no test may change."""
    made = MongoApprovalStore(own, vault)
    bystander = approval("bystander", region="990700")
    await made.add(bystander)
    before = raw.approvals.find_one({"_id": bystander.approval_id})
    yield made
    assert raw.approvals.find_one({"_id": bystander.approval_id}) == before
    raw.approvals.delete_many({})


@pytest.mark.parametrize("reason", ["death", None])
async def test_an_approval_comes_back_as_it_was_kept(store: MongoApprovalStore, reason: str | None) -> None:
    asked = replace(approval(), reason=reason)
    assert await store.add(asked)
    assert await store.approval(asked.approval_id) == asked
    word = decided(asked)
    assert await store.decide(asked, word) == word
    assert await store.approval(asked.approval_id) == word
    done = replace(word, carried_out_at=NOW + 2 * HOUR, version=3)
    assert await store.settle(word, done)
    assert await store.approval(asked.approval_id) == done


async def test_of_many_that_ask_for_the_same_one_is_kept(store: MongoApprovalStore) -> None:
    same = [replace(approval(), approval_id=ApprovalId(derived_id("apr", str(n)))) for n in range(20)]
    kept = await asyncio.gather(*(store.add(one) for one in same))
    assert kept.count(True) == 1
    pending = await store.pending_for(same[0].card_id, "cancel")
    assert pending == same[kept.index(True)]
    assert await store.pending_for(same[0].card_id, "unlock") is None
    assert await store.add(replace(approval("other"), card_id=same[0].card_id, kind="unlock"))


@pytest.mark.parametrize("state", ["approved", "rejected"])
async def test_what_was_decided_makes_room_for_another(store: MongoApprovalStore, state: Decision) -> None:
    asked = approval()
    assert await store.add(asked)
    assert await store.decide(asked, decided(asked, state)) is not None
    assert await store.pending_for(asked.card_id, "cancel") is None
    assert not await store.add(asked)
    assert await store.add(replace(asked, approval_id=ApprovalId(derived_id("apr", "later"))))


async def test_what_ran_out_makes_room_only_once_that_is_written_down(store: MongoApprovalStore) -> None:
    asked, later = approval(), replace(approval(), approval_id=ApprovalId(derived_id("apr", "later")))
    assert await store.add(asked)
    assert not await store.add(later)
    await store.expire(asked)
    assert await store.add(later)
    assert (await store.approval(asked.approval_id)) == replace(asked, stored_state="expired", version=2)
    # One that was decided meanwhile is not undone by who thought that it had run out.
    word = decided(later)
    assert await store.decide(later, word) == word
    await store.expire(later)
    assert await store.approval(later.approval_id) == word


async def test_of_many_that_decide_at_once_one_does(store: MongoApprovalStore) -> None:
    asked = approval()
    assert await store.add(asked)
    words = [decided(asked, ("approved", "rejected")[n % 2], bytes([n]) * 32) for n in range(20)]
    outcomes = await asyncio.gather(*(store.decide(asked, word) for word in words))
    (winner,) = [outcome for outcome in outcomes if outcome is not None]
    assert await store.approval(asked.approval_id) == winner


async def test_only_what_is_approved_is_to_be_carried_out_and_only_once(store: MongoApprovalStore) -> None:
    asked, other = approval(), approval("other")
    assert await store.add(asked)
    assert await store.add(other)
    assert await store.to_carry_out(10) == []
    word = decided(asked)
    await store.decide(asked, word)
    await store.decide(other, decided(other, "rejected"))
    assert await store.to_carry_out(10) == [word]
    endings = [replace(word, stored_state="failed", failure="locked", version=3), replace(word, carried_out_at=NOW, version=3)]
    outcomes = await asyncio.gather(*(store.settle(word, endings[n % 2]) for n in range(20)))
    assert outcomes.count(True) == 1
    assert await store.approval(asked.approval_id) == endings[outcomes.index(True) % 2]
    assert await store.to_carry_out(10) == []


async def test_the_list_knows_regions_states_at_a_moment_and_places(store: MongoApprovalStore) -> None:
    made = [approval(str(n), at=NOW + n * HOUR) for n in range(5)]
    abroad = approval("abroad", region="990200", at=NOW + HOUR)
    for one in (*made, abroad):
        assert await store.add(one)
    word = decided(made[4], "rejected")
    await store.decide(made[4], word)
    newest_first = [word, made[3], made[2], made[1], made[0]]
    assert await store.of_regions(["990100"], None, None, 10, NOW) == newest_first
    assert await store.of_regions(["990100"], None, None, 2, NOW) == newest_first[:2]
    after = (made[3].asked_at, made[3].approval_id)
    assert await store.of_regions(["990100"], None, after, 10, NOW) == newest_first[2:]
    assert await store.of_regions(["990100"], "rejected", None, 10, NOW) == [word]
    # The second has just run out.
    at = made[1].expires_at
    assert await store.of_regions(["990100"], "pending", None, 10, at) == [made[3], made[2]]
    assert await store.of_regions(["990100"], "expired", None, 10, at) == [made[1], made[0]]
    both = await store.of_regions(["990100", "990200"], "pending", None, 10, NOW)
    # Two of one moment stand in the order of their ids.
    assert [one.approval_id for one in both[-3:-1]] == sorted([made[1].approval_id, abroad.approval_id], reverse=True)
    assert await store.of_regions([], None, None, 10, NOW) == []


async def test_names_and_words_are_sealed_each_for_its_place(store: MongoApprovalStore, raw: Raw) -> None:
    asked, other = approval(), approval("other")
    assert await store.add(asked)
    assert await store.add(other)
    await store.decide(asked, decided(asked))
    document = raw.approvals.find_one({"_id": asked.approval_id})
    assert document is not None
    text = repr(document)
    assert all(word not in text for word in ("name of", "so it is", "death"))
    raw.approvals.update_one({"_id": other.approval_id}, {"$set": {"askedBy": document["askedBy"]}})
    with pytest.raises(VaultError):
        await store.approval(other.approval_id)
