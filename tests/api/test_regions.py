"""The rules of regions over HTTP: public, cacheable, and those of the packs that the service was started with."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from api.client import Api

from service.config import Config
from service.locale import LOCALES, Locale, text
from service.mongo.client import Database
from service.mongo.migrations import migrate
from service.policies import ACTS, CATEGORIES, Category
from service.regions import SHIPPED, Region, Regions
from service.server import serving

REGIONS = Regions.load_directory(SHIPPED)
PUBLICATIONS = {
    "functionsAndUses",
    "eligibilityConditionsAndProcedure",
    "scopePeriodAndMethod",
    "lossDamageAndReplacement",
    "rightsAndDuties",
}


async def _rules(api: Api, code: str, locale: Locale = "en") -> dict[str, Any]:
    reply = await api.get(f"/v1/regions/{code}/rules", Accept_Language=locale)
    assert (reply.status, reply.headers["Content-Language"]) == (200, locale)
    told: dict[str, Any] = reply.json
    return told


async def _guide(api: Api, code: str, category: str, locale: Locale = "en") -> dict[str, Any]:
    reply = await api.get(f"/v1/regions/{code}/guides/activation?category={category}", Accept_Language=locale)
    assert reply.status == 200
    told: dict[str, Any] = reply.json
    return told


def _channels(rules: dict[str, Any]) -> dict[str, list[str]]:
    return {row["action"]: row["channels"] for row in rules["channels"]}


@pytest.mark.parametrize("region", [*REGIONS], ids=lambda region: region.code)
async def test_the_rules_are_those_of_the_pack_in_both_languages(api: Api, region: Region) -> None:
    for locale in LOCALES:
        rules = await _rules(api, region.code, locale)
        policy = region.policy
        assert (rules["regionCode"], rules["regionName"], rules["version"]) == (
            region.code,
            region.name(locale),
            policy.version,
        )
        assert set(rules["publications"]) == PUBLICATIONS
        assert rules["publications"]["lossDamageAndReplacement"] == policy.publications.loss_damage_and_replacement.read_in(
            locale
        )
        assert rules["temporaryLossDays"] == policy.temporary_loss_days
        assert rules["figuresOldAfterHours"] == policy.figures_old_after_hours
        assert rules["guardianAge"] == policy.guardian_age
        assert rules["requiredAssurance"] == policy.required_assurance
        assert rules["cardNumber"]["length"] == policy.card_number.length
        assert rules["servicePin"] == {"length": 6, "maxTries": policy.service_pin.max_tries}
        assert [bank["name"] for bank in rules["banks"]] == [bank.name(locale) for bank in region.banks]
        channels = _channels(rules)
        assert list(channels) == ["activate", *ACTS]
        assert {act: tuple(channels[act]) for act in ACTS} == policy.channels
        assert rules["formalLossCancellable"] == bool(channels["cancelFormalLoss"])


async def test_the_rules_keep_the_first_pin_to_themselves(api: Api) -> None:
    for region in REGIONS:
        raw = (await api.get(f"/v1/regions/{region.code}/rules")).raw.decode()
        assert region.policy.service_pin.initial_value not in raw
        assert "initial" not in raw


async def test_a_cut_off_is_published_with_its_announcement_and_passes_with_the_clock(api: Api) -> None:
    old, new = (await _rules(api, "990500"))["generations"]
    assert old == {
        "number": 2,
        "issued": False,
        "announcedOn": "2026-03-01",
        "cutOffOn": "2031-12-31",
        "retired": False,
    }
    assert (new["number"], new["issued"], new["cutOffOn"]) == (3, True, None)
    await api.advance(8 * 366 * 86_400)
    assert [generation["retired"] for generation in (await _rules(api, "990500"))["generations"]] == [True, False]


@pytest.mark.parametrize("category", CATEGORIES)
async def test_a_guide_says_where_to_go_and_what_to_bring(api: Api, category: Category) -> None:
    for region in REGIONS:
        for locale in LOCALES:
            guide = await _guide(api, region.code, category, locale)
            assert guide["category"] == category
            assert guide["categoryName"] == text(locale, f"categories.{category}")
            assert guide["channels"]
            for way, known in zip(guide["channels"], region.activation_guide(category).ways, strict=True):
                assert (way["channel"], way["name"]) == (known.channel, text(locale, f"channels.{known.channel}"))
                assert way["functions"] == (["social", "bank"] if known.channel == "bank" else ["social"])
                assert way["materials"] == [
                    {"code": material, "name": text(locale, f"materials.{material}")} for material in known.materials
                ]


@pytest.mark.parametrize("query", ["", "?category=", "?category=tourist", "?category=Adult", "?kind=adult"])
async def test_a_guide_for_nobody_is_refused(api: Api, query: str) -> None:
    reply = await api.get(f"/v1/regions/990100/guides/activation{query}")
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert "tourist" not in reply.raw.decode()


@pytest.mark.parametrize("below", ["", "/rules", "/guides/activation?category=adult"])
async def test_a_region_that_is_not_served_has_no_rules(api: Api, below: str) -> None:
    reply = await api.get(f"/v1/regions/110105{below}")
    assert (reply.status, reply.code) == (404, "not_found")


PATHS = [
    "/v1/regions",
    "/v1/regions/990100",
    "/v1/regions/990100/rules",
    "/v1/regions/990100/guides/activation?category=adult",
]


@pytest.mark.parametrize("path", PATHS)
async def test_what_a_client_has_is_not_sent_again(api: Api, path: str) -> None:
    first = await api.get(path, Accept_Language="en")
    assert "max-age=300" in first.headers["Cache-Control"]
    assert "public" in first.headers["Cache-Control"]
    assert {"Accept", "Accept-Language"} <= {name.strip() for name in first.headers["Vary"].split(",")}
    again = await api.get(path, Accept_Language="en", If_None_Match=first.headers["ETag"])
    assert (again.status, again.raw, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    other = await api.get(path, Accept_Language="zh-CN", If_None_Match=first.headers["ETag"])
    assert other.status == 200
    assert other.headers["ETag"] != first.headers["ETag"]


# A city changes its pack, another one joins: nothing but files.


def _rewrite(pack: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in pack, old
        pack = pack.replace(old, new)
    return pack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packs of the sandbox, of which one has other rules now, and one more."""
    folder = tmp_path_factory.mktemp("packs")
    shutil.copytree(SHIPPED, folder, dirs_exist_ok=True)
    home = (SHIPPED / "990100.toml").read_text(encoding="utf-8")
    stricter = {
        "max_tries = 5": "max_tries = 9",
        "required_assurance = 2": "required_assurance = 3",
        "version = 3": "version = 4",
    }
    (folder / "990100.toml").write_text(_rewrite(home, stricter), encoding="utf-8")
    joined = {
        'code = "990100"': 'code = "990800"',
        'zh = "云栖市"': 'zh = "新渡市"',
        'en = "Yunqi"': 'en = "Xindu"',
        'code = "B901"': 'code = "NEW1"',
        'zh = "云汀银行"': 'zh = "新渡银行"',
        'en = "Yunting Bank"': 'en = "Bank of Xindu"',
        "temporary_loss_days = 7": "temporary_loss_days = 21",
        'changePin = ["app", "web", "hospital", "bureau"]': 'changePin = ["hospital"]',
        'lowIncome = ["card", "idCard", "lowIncomeCertificate"]': 'lowIncome = ["lowIncomeCertificate"]',
    }
    (folder / "990800.toml").write_text(_rewrite(home, joined), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
async def changed(config: Config, folder: Path) -> AsyncIterator[str]:
    """Where a sandbox listens that was started with those."""
    name = f"{config.mongodb_database}_packs"
    uri = config.mongodb_uri.get_secret_value()
    async with Database(uri, name, deadline_seconds=10, pool=4) as database:
        await migrate(database, print)
        own = config.model_copy(update={"mongodb_database": name, "regions_dir": folder})
        async with serving(own, seed_first=True) as running:
            yield running.url
        await database.drop()


@pytest.fixture
async def elsewhere(changed: str, api: Api) -> AsyncIterator[Api]:
    del api
    async with Api(changed) as client:
        await client.post("/sandbox/reset", {})
        yield client


async def test_a_new_pack_is_served_without_any_code(elsewhere: Api) -> None:
    codes = [region["code"] for region in (await elsewhere.get("/v1/regions")).json["items"]]
    assert codes == [*(region.code for region in REGIONS), "990800"]
    rules = await _rules(elsewhere, "990800")
    assert (rules["regionName"], rules["temporaryLossDays"]) == ("Xindu", 21)
    assert _channels(rules)["changePin"] == ["hospital"]
    assert rules["banks"][0] == {"code": "NEW1", "name": "Bank of Xindu"}
    assert "lasts 21 days" in rules["publications"]["lossDamageAndReplacement"]
    assert "through a designated hospital;" in rules["publications"]["rightsAndDuties"]
    guide = await _guide(elsewhere, "990800", "lowIncome")
    assert {
        tuple(material["code"] for material in way["materials"]) for way in guide["channels"] if way["channel"] == "bureau"
    } == {("lowIncomeCertificate",)}


async def test_a_changed_pack_changes_what_is_done(api: Api, elsewhere: Api) -> None:
    assert (await _rules(elsewhere, "990100"))["version"] == 4
    assert await _activated(api) == (5, 200, {"result": "activated"})
    assert await _activated(elsewhere) == (9, 403, {"code": "assurance_too_low", "requiredAssurance": 3})


async def _activated(client: Api) -> tuple[int, int, dict[str, Any]]:
    """Activate the first persona's card: the tries it had left, the status of the answer, and what matters in it."""
    me = await client.sign_in("sealed")
    (card,) = (await me.get("/v1/cards")).json["items"]
    done = await me.post("/v1/activations", await client.details("sealed"), key="new")
    told = {name: done.json[name] for name in ("result", "code", "requiredAssurance") if name in done.json}
    return card["servicePin"]["triesLeft"], done.status, told
