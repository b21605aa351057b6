"""Receipts: what has one, for whom, that they say the same each time, and that nothing else passes for one."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from api.card_office import bring, own_card, released, replacement
from api.client import Api, Reply
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from service.config import Config
from service.ids import new_id
from service.keyring import Keyring, load_keyring, save_keyring

# The order of the curve's group, SEC 2, 2.4.2.
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


async def receipts(client: Api, query: str = "") -> list[dict[str, Any]]:
    reply = await client.get(f"/v1/receipts{query}")
    assert reply.status == 200, reply.raw
    items: list[dict[str, Any]] = reply.json["items"]
    return items


async def claims_of(api: Api, receipt: str) -> dict[str, Any]:
    """What we say of a receipt, which is what anybody reads with the published keys."""
    said = (await api.post("/v1/receipts/verify", {"receipt": receipt})).json
    assert said["valid"] is True
    keys = (await api.get("/.well-known/jwks.json")).json["keys"]
    key = next(key for key in keys if key["kid"] == jwt.get_unverified_header(receipt)["kid"])
    assert jwt.decode(receipt, jwt.PyJWK(key).key, algorithms=["ES256"]) == said["claims"]
    claims: dict[str, Any] = said["claims"]
    return claims


async def lose(client: Api, card_id: str, kind: str, **more: str) -> Reply:
    return await client.post(f"/v1/cards/{card_id}/loss", {"kind": kind} | more, key="new")


async def test_an_activation_has_the_receipt_that_it_gave(api: Api) -> None:
    client = await api.sign_in("sealed")
    done = (await client.activate(await api.details("sealed"))).json
    (listed,) = await receipts(client)
    assert (listed["event"], listed["cardId"], listed["at"]) == ("card.activated", done["cardId"], done["activatedAt"])
    shown = (await client.get(f"/v1/receipts/{listed['receiptId']}")).json
    assert {**shown, "receipt": ""} == {**listed, "receipt": ""}
    claims = [await claims_of(api, receipt) for receipt in (done["receipt"], listed["receipt"], shown["receipt"])]
    assert claims[0] == claims[1] == claims[2]
    assert claims[0]["jti"] == done["activationId"]


async def test_losing_a_card_has_receipts_and_finding_it_has_none(api: Api) -> None:
    client = await api.sign_in("sealed")
    card_id = (await client.activate(await api.details("sealed"))).json["cardId"]
    for kind in ("temporary", "formal"):
        assert (await lose(client, card_id, kind)).status == 200
    assert (await client.post(f"/v1/cards/{card_id}/loss/cancel", {}, key="new")).status == 200
    found = await receipts(client, f"?cardId={card_id}")
    events = ["card.formalLossReported", "card.temporaryLossReported", "card.activated"]
    assert [item["event"] for item in found] == events
    for item in found[:2]:
        said = await claims_of(api, item["receipt"])
        moment = said["iat"]
        assert said == {
            "iss": "https://yika.example",
            "iat": moment,
            "jti": item["receiptId"],
            "event": item["event"],
            "cardId": card_id,
            "regionCode": "990100",
            "channel": "app",
            "at": item["at"],
        }


async def test_a_card_that_was_replaced_has_a_receipt_for_it(api: Api) -> None:
    client = await api.sign_in("active")
    old = await own_card(client)
    application_id = (await replacement(client, old["cardId"])).json["applicationId"]
    producer, supervisor = await api.sign_in_staff("production"), await api.sign_in_staff("bureau-supervisor")
    await bring(producer, application_id, "bankPreOpened")
    await released(producer, supervisor, application_id)
    await bring(producer, application_id, "delivered")
    newest, *_ = await receipts(client, f"?cardId={old['cardId']}")
    assert newest["event"] == "card.replaced"
    assert (await claims_of(api, newest["receipt"]))["cardId"] == old["cardId"]


async def test_a_list_of_receipts_is_read_page_by_page_newest_first(api: Api) -> None:
    client = await api.sign_in("formally-lost")
    whole = await receipts(client)
    events = ["card.formalLossReported", "card.temporaryLossReported", "card.activated"]
    assert [item["event"] for item in whole] == events
    pages, cursor = [], ""
    for left in (2, 1, 0):
        page = (await client.get(f"/v1/receipts?limit=1{cursor}")).json
        pages += [item["receiptId"] for item in page["items"]]
        assert page["hasMore"] is (left > 0)
        cursor = f"&cursor={page['nextCursor']}"
    assert pages == [item["receiptId"] for item in whole]
    for wrong in ("?cursor=bm9uc2Vuc2U", "?limit=0"):
        assert (await client.get(f"/v1/receipts{wrong}")).code == "invalid_request"


async def test_a_card_on_which_nothing_was_done_has_no_receipts(api: Api) -> None:
    client = await api.sign_in("sealed")
    card_id = (await api.persona("sealed"))["cards"][0]["cardId"]
    assert await receipts(client, f"?cardId={card_id}") == await receipts(client) == []


async def test_somebody_elses_receipts_are_not_found(api: Api) -> None:
    (item, *_) = await receipts(await api.sign_in("active"))
    other = await api.sign_in("sealed")
    for path in (f"?cardId={item['cardId']}", f"/{item['receiptId']}", f"?cardId={new_id('card')}", f"/{new_id('rcp')}", "/x"):
        assert (await other.get(f"/v1/receipts{path}")).code == "not_found", path
    assert (await api.get("/v1/receipts")).code == "unauthenticated"


async def test_a_guardian_has_the_receipts_of_what_they_did_and_the_minor_has_them_too(api: Api) -> None:
    guardian, card_id = await api.sign_in("guardian"), (await api.persona("minor"))["cards"][0]["cardId"]
    dependant = (await guardian.get("/v1/dependants")).json["items"][0]["dependantId"]
    own = {item["receiptId"] for item in await receipts(guardian)}
    done = await guardian.activate(await api.details("minor") | {"onBehalfOf": dependant})
    assert done.status == 200, done.raw
    lost = await lose(guardian, card_id, "temporary", onBehalfOf=dependant)
    assert lost.status == 200, lost.raw
    theirs = await receipts(guardian, f"?cardId={card_id}")
    assert [item["event"] for item in theirs] == ["card.temporaryLossReported", "card.activated"]
    assert {item["receiptId"] for item in await receipts(guardian)} == own | {item["receiptId"] for item in theirs}
    assert (await guardian.get(f"/v1/receipts/{theirs[0]['receiptId']}")).status == 200
    minor = await api.sign_in("minor")
    assert [item["receiptId"] for item in await receipts(minor)] == [item["receiptId"] for item in theirs]
    # What the guardian did not do is the minor's alone.
    found = await minor.post(f"/v1/cards/{card_id}/loss/cancel", {}, key="new")
    if found.status == 200:
        assert (await lose(minor, card_id, "formal")).status == 200
        assert len(await receipts(minor)) == len(await receipts(guardian, f"?cardId={card_id}")) + 1


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _spellings(receipt: str) -> dict[str, str]:
    """Other ways to write down the same signature, for whoever decodes without looking."""
    start, _, signature = receipt.rpartition(".")
    signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = signs.index(signature[-1])
    # 64 bytes are 86 signs, the last of which carries two bits and four of nothing.
    other_bits = {f"last bits {bits}": f"{start}.{signature[:-1]}{signs[last + bits]}" for bits in (1, 7, 15)}
    raw = base64.urlsafe_b64decode(signature + "==")
    return other_bits | {
        "padded": f"{receipt}==",
        "padded once": f"{receipt}=",
        "padded far": f"{receipt}====",
        "a new line": f"{receipt}\n",
        "a sign from outside": f"{start}.{signature[:40]}!{signature[40:]}",
        "the other alphabet": f"{start}.{base64.b64encode(raw).decode()}",
    }


def _forged(receipt: str, jwks: dict[str, Any]) -> dict[str, str]:
    """Every way we could think of to make what is not ours look like a receipt of ours."""
    head, body, signature = receipt.split(".")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, body))
    stranger = ec.generate_private_key(ec.SECP256R1())
    pem = stranger.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def headed(**changes: Any) -> str:
        return _b64(json.dumps(header | changes).encode())

    def claiming(**changes: Any) -> str:
        return _b64(json.dumps(claims | changes).encode())

    forged = {
        "a stranger's key": jwt.encode(claims, pem, algorithm="ES256", headers=header),
        "a stranger's key, embedded": jwt.encode(claims, pem, algorithm="ES256", headers=header | {"jwk": jwks["keys"][0]}),
        "an unknown kid": jwt.encode(claims, pem, algorithm="ES256", headers=header | {"kid": "s000000000000"}),
        "cut": receipt[:-1],
        "cut by half": receipt[: len(receipt) // 2],
        "without signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{receipt}.{signature}",
        "zeros": f"{head}.{body}.{_b64(bytes(64))}",
        "as DER": f"{head}.{body}.{_b64(_der(signature))}",
        "detached": f"{head}..{signature}",
        "nonsense": "nonsense",
        "padded head": f"{head}=.{body}.{signature}",
        "padded claims": f"{head}.{body}=.{signature}",
    }
    public = json.dumps(jwks["keys"][0]).encode()
    for algorithm in ("none", "None", "HS256", "RS256", "ES384", "EdDSA", "es256", ""):
        forged[f"alg {algorithm}"] = f"{headed(alg=algorithm)}.{body}.{signature}"
        forged[f"alg {algorithm}, unsigned"] = f"{headed(alg=algorithm)}.{body}."
    keyed = hmac.new(public, f"{headed(alg='HS256')}.{body}".encode(), hashlib.sha256).digest()
    forged["hs256 with the public key"] = f"{headed(alg='HS256')}.{body}.{_b64(keyed)}"
    for kind in ("at+jwt", "JWT", "", None):
        forged[f"typ {kind}"] = f"{headed(typ=kind)}.{body}.{signature}"
    for name in claims:
        forged[f"{name} changed"] = f"{head}.{claiming(**{name: 'x'})}.{signature}"
    return forged


def _der(signature: str) -> bytes:
    raw = base64.urlsafe_b64decode(signature + "==")
    return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))


async def test_nothing_else_passes_for_a_receipt(api: Api) -> None:
    tokens = await api.tokens("active")
    (item, *_) = await receipts(api.as_(tokens["accessToken"]))
    jwks = (await api.get("/.well-known/jwks.json")).json
    wrong = _forged(item["receipt"], jwks) | _spellings(item["receipt"]) | {"an access token": tokens["accessToken"]}
    assert len(wrong) >= 50
    for name, text in wrong.items():
        said = await api.post("/v1/receipts/verify", {"receipt": text})
        assert (said.status, said.json) == (200, {"valid": False, "claims": None}), name
    assert (await api.post("/v1/receipts/verify", {"receipt": item["receipt"]})).json["valid"] is True


async def test_what_the_algorithm_itself_allows_changes_no_word_of_a_receipt(api: Api) -> None:
    """For each signature of ECDSA anybody can compute its mirror image; it is over the same words, so it says the same."""
    (item, *_) = await receipts(await api.sign_in("active"))
    start, _, signature = item["receipt"].rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    mirrored = raw[:32] + (P256_ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    assert await claims_of(api, f"{start}.{_b64(mirrored)}") == await claims_of(api, item["receipt"])


@pytest.fixture
async def ring(config: Config) -> AsyncIterator[Keyring]:
    """The keyring of the run, as it was again afterwards."""
    before = load_keyring(config.keyring_path)
    yield before
    save_keyring(config.keyring_path, before)
    await asyncio.sleep(2.5)


async def _published(api: Api, kids: set[str]) -> None:
    """Wait until the service has looked at its keyring."""
    async with asyncio.timeout(10):
        while {key["kid"] for key in (await api.get("/.well-known/jwks.json")).json["keys"]} != kids:
            await asyncio.sleep(0.1)


async def test_receipts_stay_verifiable_when_their_key_rotates_and_retires(api: Api, config: Config, ring: Keyring) -> None:
    client = await api.sign_in("active")
    (first, *_) = await receipts(client)
    said = await claims_of(api, first["receipt"])
    old, now = ring.signer(time.time()).kid, time.time()
    rotated = ring.rotate_signing(now, 0)
    save_keyring(config.keyring_path, rotated)
    await _published(api, {key.kid for key in rotated.signing_keys})
    (anew, *_) = await receipts(client)
    assert jwt.get_unverified_header(anew["receipt"])["kid"] != old == jwt.get_unverified_header(first["receipt"])["kid"]
    assert await claims_of(api, first["receipt"]) == await claims_of(api, anew["receipt"]) == said
    save_keyring(config.keyring_path, rotated.retire(old, time.time()))
    async with asyncio.timeout(10):
        # Sessions notice: tokens of a retired key are over.
        while (await client.get("/v1/sessions")).status == 200:
            await asyncio.sleep(0.1)
    assert await claims_of(api, first["receipt"]) == said
    save_keyring(config.keyring_path, rotated.revoke(old, time.time()))
    await _published(api, {key.kid for key in rotated.signing_keys} - {old})
    revoked = await api.post("/v1/receipts/verify", {"receipt": first["receipt"]})
    assert revoked.json == {"valid": False, "claims": None}
    assert await claims_of(api, anew["receipt"]) == said
    (third, *_) = await receipts(await api.sign_in("active", "face"))
    assert await claims_of(api, third["receipt"]) == said


async def test_what_was_done_at_a_counter_has_a_receipt_for_the_holder_and_none_for_the_operator(api: Api) -> None:
    clerk, client = await api.sign_in_staff("bureau"), await api.sign_in("active")
    card_id = (await own_card(client))["cardId"]
    done = await clerk.post(f"/v1/staff/cards/{card_id}/loss", {"kind": "formal", "materials": ["idCard"]}, key="new")
    assert done.status == 200, done.raw
    (newest, *_) = await receipts(client)
    assert (newest["event"], newest["channel"]) == ("card.formalLossReported", "bureau")
    said = await claims_of(api, newest["receipt"])
    assert (said["channel"], said["jti"]) == ("bureau", newest["receiptId"])
    assert (await clerk.get("/v1/receipts")).code == "forbidden"
