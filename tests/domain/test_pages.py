"""The pages: walkable from home by entries alone, alike in both languages, refused when one dangles."""

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import date
from itertools import product
from pathlib import Path
from shutil import copytree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Refusal
from service.locale import LOCALES, Locale
from service.numbers import (
    CardNumberFormat,
    InvalidNumber,
    parse_card_number,
    parse_household_register,
    parse_identification_code,
    parse_mobile,
    parse_resident_id,
)
from service.pages import HOME, SHIPPED, VERIFY_PAGE, FormField, Page, Pages, PagesError
from service.regions import SHIPPED as SHIPPED_REGIONS
from service.regions import Region, Regions

WAY_OF_THE_SEEDS = (
    "more",
    "city-service",
    "social-security",
    "smart-hrss",
    "social-security-card",
    "activate",
)


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages.load(SHIPPED)


@pytest.fixture(scope="module")
def regions() -> Regions:
    return Regions.load_directory(SHIPPED_REGIONS)


@pytest.fixture(scope="module")
def region(regions: Regions) -> Region:
    return regions.get("990100")


def every_page(pages: Pages, locale: Locale, region: Region) -> dict[str, Page]:
    """Each page that can be reached from home by tapping entries and submitting forms."""
    found: dict[str, Page] = {}
    waiting = [HOME]
    while waiting:
        page = pages.page(waiting.pop(), locale, region)
        found[page.page_id] = page
        onward = [entry.opens.page for section in page.sections for entry in section.entries]
        onward += [page.form.opens.page] if page.form and page.form.opens else []
        waiting += [target for target in onward if target not in found]
    return found


def field_of(page: Page, name: str) -> FormField:
    assert page.form is not None
    return next(field for field in page.form.fields if field.name == name)


@pytest.mark.parametrize("locale", LOCALES)
def test_the_way_of_the_seeds_is_walkable_by_entries_alone(pages: Pages, locale: Locale, region: Region) -> None:
    page = pages.page(HOME, locale, region)
    for entry_id in WAY_OF_THE_SEEDS:
        entries = {entry.entry_id: entry for section in page.sections for entry in section.entries}
        page = pages.page(entries[entry_id].opens.page, locale, region)
        assert page.page_id == entry_id
    assert page.form is not None
    assert (page.form.submit.method, page.form.submit.url) == ("POST", "/v1/activations")
    assert [field.name for field in page.form.fields] == ["idNumber", "cardNumber", "identificationCode"]
    assert all(field.required and field.pattern and field.max_length and field.help for field in page.form.fields)
    assert tuple(crumb.page_id for crumb in page.breadcrumb) == (HOME, *WAY_OF_THE_SEEDS)


def test_the_way_reads_as_residents_know_it(pages: Pages, region: Region) -> None:
    english = [crumb.title for crumb in pages.page("social-security-card", "en", region).breadcrumb]
    assert english == [
        "Home",
        "More",
        "City Service",
        "Social Security",
        "Smart HR & Social Security",
        "Social Security Card",
    ]
    chinese = [crumb.title for crumb in pages.page("social-security-card", "zh-CN", region).breadcrumb]
    assert chinese[-2:] == ["智慧人社", "社会保障卡"]


def test_city_service_offers_its_three_entries(pages: Pages, region: Region) -> None:
    page = pages.page("city-service", "en", region)
    entries = [entry.entry_id for section in page.sections for entry in section.entries]
    assert entries == ["social-security", "ecard-query", "housing-fund"]


def test_a_session_is_required_for_the_cards_and_what_lies_below_them_only(pages: Pages, region: Region) -> None:
    closed = {name for name, page in every_page(pages, "en", region).items() if page.requires == "session"}
    below = {
        name
        for name, page in every_page(pages, "en", region).items()
        if {"social-security-card", "ecard", "housing-fund-account"} & {crumb.page_id for crumb in page.breadcrumb}
    }
    assert closed == below >= {"social-security-card", "activate", "dependants", "link-child", "link-ward"}
    assert pages.page("social-security-card", "en", region).has_panel


@pytest.mark.parametrize("locale", LOCALES)
def test_every_page_can_be_reached_from_home(pages: Pages, locale: Locale, region: Region) -> None:
    assert every_page(pages, locale, region).keys() == {path.stem for path in SHIPPED.glob("*.toml")}


def test_every_breadcrumb_goes_from_home_to_the_page_itself(pages: Pages, region: Region) -> None:
    for page in every_page(pages, "en", region).values():
        assert page.breadcrumb[0].page_id == HOME
        assert (page.breadcrumb[-1].page_id, page.breadcrumb[-1].title) == (page.page_id, page.title)


@pytest.mark.parametrize("method", ["sms", "password", "face"])
def test_a_person_can_verify_who_they_are_from_page_to_page(pages: Pages, region: Region, method: str) -> None:
    choices = pages.page(VERIFY_PAGE, "en", region)
    assert f"identity-{method}" in {entry.opens.page for section in choices.sections for entry in section.entries}
    start = pages.page(f"identity-{method}", "en", region)
    assert start.form is not None
    assert start.form.submit.url == "/v1/identity/verifications"
    chosen = field_of(start, "method")
    assert (chosen.type, chosen.value) == ("hidden", method)
    names = [field.name for field in start.form.fields]
    assert names == ["method", "name", "idNumber", "mobile"] if method == "sms" else ["method", "name", "idNumber"]
    assert start.form.opens is not None
    confirmation = pages.page(start.form.opens.page, "en", region)
    assert confirmation.form is not None
    assert confirmation.form.submit.url == "/v1/identity/verifications/{verificationId}/confirm"
    expected = {"sms": ["code"], "password": ["password"], "face": []}[method]
    assert [field.name for field in confirmation.form.fields] == expected


def test_every_form_is_sent_to_the_api(pages: Pages, region: Region) -> None:
    forms = [page.form for page in every_page(pages, "en", region).values() if page.form]
    assert forms
    assert all(form.submit.url.startswith("/v1/") for form in forms)


def shape_of(value: object) -> object:
    """A value without its words: what both languages must share."""
    if is_dataclass(value):
        worded = {"title", "subtitle", "label", "help", "revision"}
        return {
            field.name: getattr(value, field.name) is None if field.name in worded else shape_of(getattr(value, field.name))
            for field in fields(value)
        }
    return [shape_of(one) for one in value] if isinstance(value, tuple) else value


def test_both_languages_have_the_same_structure(pages: Pages, region: Region) -> None:
    chinese, english = (every_page(pages, locale, region) for locale in LOCALES)
    assert {name: shape_of(page) for name, page in chinese.items()} == {name: shape_of(page) for name, page in english.items()}
    assert all(chinese[name].title != english[name].title for name in english)


def test_pages_speak_of_the_region_they_are_for(pages: Pages, regions: Regions) -> None:
    for region, locale in product(regions, LOCALES):
        assert region.name(locale) in repr(pages.page("city-service", locale, region))
        assert not any("{region}" in repr(page) for page in every_page(pages, locale, region).values())


def test_the_revision_is_one_for_each_different_content(pages: Pages, regions: Regions) -> None:
    one, other = regions.get("990100"), regions.get("990200")
    assert pages.page("activate", "en", one).revision == pages.page("activate", "en", other).revision
    assert pages.page("city-service", "en", one).revision != pages.page("city-service", "en", other).revision
    assert pages.page("activate", "en", one).revision != pages.page("activate", "zh-CN", one).revision
    english = [page.revision for page in every_page(pages, "en", one).values()]
    assert len(set(english)) == len(english)
    assert all(re.fullmatch(r"[0-9a-f]{32}", revision) for revision in english)


def test_the_revision_is_the_same_after_a_restart(pages: Pages, region: Region) -> None:
    assert Pages.load(SHIPPED).page("activate", "en", region) == pages.page("activate", "en", region)


@pytest.mark.parametrize("page_id", ["no-such-page", "", "../home", "Home"])
def test_an_unknown_page_is_not_found(pages: Pages, region: Region, page_id: str) -> None:
    with pytest.raises(Refusal) as refused:
        pages.page(page_id, "en", region)
    assert refused.value.code == "not_found"


# What people's keyboards and clipboards put between and in place of characters.
SEPARATORS = st.sampled_from(["", "", "", " ", "\u3000", "\u00a0", "-", "\u2013", "\u200b", "\t"])


@st.composite
def as_typed(draw: st.DrawFn, number: str) -> str:
    """A number as people paste it: spaces, dashes, full-width characters, lower case."""
    typed = draw(SEPARATORS)
    for character in number:
        spellings = [
            character,
            character.lower(),
            chr(ord(character) + 0xFEE0),
            chr(ord(character.lower()) + 0xFEE0),
        ]
        if character == "X":
            spellings += ["\u2169", "\u2179"]
        typed += draw(st.sampled_from(spellings)) + draw(SEPARATORS)
    return typed


NUMBERS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "resident": (
        "idNumber",
        "11010519491231002X",
        lambda typed: parse_resident_id(typed, today=date(2026, 11, 22)),
    ),
    "card": (
        "cardNumber",
        "A1234567X",
        lambda typed: parse_card_number(typed, CardNumberFormat(9, check_character_enforced=False)),
    ),
    "card12": (
        "cardNumber",
        "B12345678901",
        lambda typed: parse_card_number(typed, CardNumberFormat(12, check_character_enforced=False)),
    ),
    "card20": (
        "cardNumber",
        "C1234567890123456789",
        lambda typed: parse_card_number(typed, CardNumberFormat(20, check_character_enforced=False)),
    ),
    "code": ("identificationCode", "990100D1560000050123456789ABCDEF", parse_identification_code),
    "register": ("householdRegister", "99001234X", parse_household_register),
    "mobile": ("mobile", "13800138000", parse_mobile),
    "mobile with country": ("mobile", "+8613800138000", parse_mobile),
    "mobile dialled": ("mobile", "008613800138000", parse_mobile),
}


@pytest.mark.parametrize("kind", NUMBERS)
@given(choice=st.data())
def test_a_form_lets_through_what_the_service_understands(choice: st.DataObject, kind: str) -> None:
    name, number, understand = NUMBERS[kind]
    typed = choice.draw(as_typed(number))
    understand(typed)
    assert LET_THROUGH[name].search(typed), typed


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_form_stops_a_number_with_a_character_missing_or_added(kind: str) -> None:
    name, number, understand = NUMBERS[kind]
    for wrong in (number + "12" * 12, number[: len(number) // 3]):
        with pytest.raises(InvalidNumber):
            understand(wrong)
        assert not LET_THROUGH[name].search(wrong)


def patterns_of_the_forms() -> dict[str, re.Pattern[str]]:
    region = Regions.load_directory(SHIPPED_REGIONS).get("990100")
    shipped = Pages.load(SHIPPED)
    shown = [form for page in ("activate", "identity-sms", "link-child") if (form := shipped.page(page, "en", region).form)]
    return {field.name: re.compile(field.pattern) for form in shown for field in form.fields if field.pattern}


LET_THROUGH = patterns_of_the_forms()


def test_a_pattern_stays_quick_on_long_input() -> None:
    for name in ("idNumber", "cardNumber", "identificationCode", "mobile", "householdRegister"):
        assert not LET_THROUGH[name].search("1" * 4000 + "!" * 4000 + "x1")


def test_every_visible_field_leaves_room_for_spaces(pages: Pages, region: Region) -> None:
    activation = pages.page("activate", "en", region)
    for name, length in (("idNumber", 18), ("cardNumber", 20), ("identificationCode", 32)):
        assert (field_of(activation, name).max_length or 0) >= 2 * length


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return copytree(SHIPPED, tmp_path / "pages")


@pytest.mark.parametrize(
    ("page_id", "old", "new", "objection"),
    [
        (
            "home",
            'opens = { page = "more" }',
            'opens = { page = "less" }',
            "home.toml: sections.0.entries.0.opens.page: is not",
        ),
        (
            "home",
            'opens = { page = "more" }',
            'opens = { url = "x" }',
            "home.toml: sections.0.entries.0.opens.page: ",
        ),
        ("home", 'entry_id = "identity"', 'entry_id = "more"', "home.toml: sections: has an entry_id twice"),
        (
            "home",
            'page_id = "home"',
            'page_id = "home"\nparent = "more"',
            "home.toml: parent: is for every page but home",
        ),
        ("more", 'page_id = "more"', 'page_id = "other"', "more.toml: page_id: is not the name of the file"),
        ("more", 'parent = "home"\n', "", "more.toml: parent: is for every page but home"),
        ("more", 'parent = "home"', 'parent = "nowhere"', "more.toml: parent: is not a page"),
        (
            "more",
            'parent = "home"',
            'parent = "activate"',
            "more.toml: parent: has nothing that opens this page",
        ),
        ("more", 'en = "More"', 'fr = "Plus"', "more.toml: title: "),
        ("more", ', en = "More" }', " }", "more.toml: title: "),
        (
            "more",
            'icon = "city"',
            'icon = "https://example.org/x.png"',
            "more.toml: sections.0.entries.0.icon: ",
        ),
        (
            "more",
            'parent = "home"',
            'parent = "home"\nhas_panel = true',
            "more.toml: has_panel: needs a session",
        ),
        ("more", 'parent = "home"', 'parent = "home"\nrequires = "luck"', "more.toml: requires: "),
        ("more", 'parent = "home"', 'parent = "home"\ncolour = "red"', "more.toml: colour: "),
        (
            "activate",
            'url = "/v1/activations"',
            'url = "https://example.org"',
            "activate.toml: form.submit.url: ",
        ),
        ("activate", 'method = "POST"', 'method = "PATCH"', "activate.toml: form.submit.method: "),
        (
            "activate",
            'opens = { page = "social',
            'opens = { page = "anti',
            "activate.toml: form.opens.page: is not a page",
        ),
        ("activate", "pattern = '^", "pattern = '", "activate.toml: form.fields.0.pattern: "),
        ("activate", "pattern = '^", "pattern = '^(", "activate.toml: form.fields.0.pattern: "),
        ("activate", "max_length = 128\n", "", "activate.toml: form.fields.2.max_length: is missing"),
        ("identity-sms", 'value = "sms"\n', "", "identity-sms.toml: form.fields.0.value: "),
        ("identity-sms", 'type = "tel"', 'type = "phone"', "identity-sms.toml: form.fields.3.type: "),
        ("more", "title", "title =", "more.toml: is not TOML"),
    ],
)
def test_a_wrong_page_stops_the_start_and_names_file_and_field(
    copied: Path, page_id: str, old: str, new: str, objection: str
) -> None:
    file = copied / f"{page_id}.toml"
    content = file.read_text(encoding="utf-8")
    assert old in content
    file.write_text(content.replace(old, new), encoding="utf-8")
    with pytest.raises(PagesError) as refused:
        Pages.load(copied)
    assert any(str(found).startswith(objection) for found in refused.value.objections), str(refused.value)


def test_pages_that_are_each_other_s_parents_stop_the_start(copied: Path) -> None:
    city, cards = copied / "city-service.toml", copied / "ecard-query.toml"
    cards.write_text(
        cards.read_text(encoding="utf-8").replace('"social-security-card" }', '"city-service" }'),
        encoding="utf-8",
    )
    moved = city.read_text(encoding="utf-8").replace('parent = "more"', 'parent = "ecard-query"')
    city.write_text(moved, encoding="utf-8")
    with pytest.raises(PagesError, match=r"ecard-query\.toml: parent: never reaches home"):
        Pages.load(copied)


@pytest.mark.parametrize("page_id", [HOME, VERIFY_PAGE])
def test_a_page_that_others_rely_on_must_be_there(copied: Path, page_id: str) -> None:
    (copied / f"{page_id}.toml").unlink()
    with pytest.raises(PagesError, match=rf"{page_id}\.toml: is missing"):
        Pages.load(copied)
