"""The two languages: which one is chosen, and that neither says less than the other."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Code
from service.locale import (
    LOCALES,
    LONGEST_HEADER,
    Catalogue,
    CatalogueError,
    Locale,
    catalogue,
    negotiate,
    placeholders,
    text,
)

# The contract's codes that service.errors does not refuse with yet, so that a client can be told about each.
PROMISED = {
    "card_not_activatable",
    "consent_required",
    "idempotency_key_invalid",
    "not_acceptable",
    "pin_incorrect",
    "pin_locked",
    "transition_not_allowed",
}
FIELD_CODES = {
    "missing",
    "unknown_field",
    "wrong_type",
    "too_long",
    "too_short",
    "pattern",
    "not_allowed",
    "resident_id_format",
    "resident_id_check_character",
    "resident_id_birth_date",
    "card_number_format",
    "card_number_check_character",
    "identification_code_format",
    "mobile_format",
    "weak_password",
    "invalid",
}


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        (None, "zh-CN"),
        ("", "zh-CN"),
        ("zh", "zh-CN"),
        ("zh-TW", "zh-CN"),
        ("zh-Hans-CN", "zh-CN"),
        ("en", "en"),
        ("en-GB", "en"),
        ("EN-us", "en"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("zh;q=0.2, en;q=0.7", "en"),
        ("en;q=0.2, zh;q=0.7", "zh-CN"),
        ("en , zh", "en"),
        ("zh , en", "zh-CN"),
        ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", "en"),
        ("fr, de;q=0.5", "zh-CN"),
        ("*", "zh-CN"),
        ("zh;q=0, *", "en"),
        ("en;q=0", "zh-CN"),
        ("en;q=0, zh;q=0", "zh-CN"),
        ("*;q=0, en;q=0.001", "en"),
        ("english", "zh-CN"),
        ("en;q=2", "zh-CN"),
        ("en;q=-1", "zh-CN"),
        ("en;q=0.1234, zh;q=0.1", "zh-CN"),
        ("en;level=1", "zh-CN"),
        (";q=1,,en", "en"),
        ("en;q", "zh-CN"),
        ("e\u0301n", "zh-CN"),
    ],
)
def test_the_language_is_the_one_the_header_prefers(header: str | None, locale: Locale) -> None:
    assert negotiate(header) == locale


def test_a_header_longer_than_any_browser_sends_is_ignored() -> None:
    filled = "en" + ",fr" * ((LONGEST_HEADER - 2) // 3)
    assert negotiate(filled) == "en"
    assert negotiate(filled + ",fr" * 2) == "zh-CN"


@given(st.text(alphabet="enzh-;q=01., *x\u00e9\n", max_size=60) | st.text())
def test_no_header_makes_the_choice_of_language_fail(header: str) -> None:
    assert negotiate(header) in LOCALES


@pytest.mark.parametrize("locale", LOCALES)
def test_every_refusal_has_a_title_and_a_detail_that_need_nothing_filled_in(locale: Locale) -> None:
    for code in PROMISED | set(get_args(Code)):
        for part in ("title", "detail"):
            assert text(locale, f"problems.{code}.{part}")
            assert not placeholders(catalogue().texts[locale][f"problems.{code}.{part}"]), code


@pytest.mark.parametrize("locale", LOCALES)
def test_every_fault_of_a_field_has_a_message(locale: Locale) -> None:
    for code in FIELD_CODES:
        assert text(locale, f"fields.{code}")


def test_both_languages_have_the_same_keys_and_placeholders() -> None:
    chinese, english = (catalogue().texts[locale] for locale in LOCALES)
    assert chinese.keys() == english.keys()
    assert {key: placeholders(chinese[key]) for key in chinese} == {key: placeholders(english[key]) for key in english}


def test_chinese_texts_are_chinese_and_english_texts_are_not() -> None:
    def has_chinese(sentence: str) -> bool:
        return any("\u4e00" <= character <= "\u9fff" for character in sentence)

    assert [key for key, sentence in catalogue().texts["zh-CN"].items() if not has_chinese(sentence)] == []
    assert [key for key, sentence in catalogue().texts["en"].items() if has_chinese(sentence)] == []


def test_activation_says_what_the_resident_is_waiting_to_read() -> None:
    assert text("zh-CN", "activation.activated") == "您的社会保障卡已激活"
    assert text("en", "activation.activated") == "Your social security card has been activated"


@pytest.mark.parametrize("locale", LOCALES)
def test_the_message_with_a_code_holds_the_code_and_how_long_it_lasts(locale: Locale) -> None:
    message = text(locale, "messages.verification_code", code="271828", minutes=5)
    assert "271828" in message
    assert "5" in message.replace("271828", "")


def test_a_text_with_a_value_missing_is_not_given_out() -> None:
    with pytest.raises(KeyError):
        text("en", "messages.verification_code", code="271828")


def test_an_unknown_key_is_an_error_of_the_caller() -> None:
    with pytest.raises(KeyError):
        text("en", "problems.no_such_thing.title")


def test_the_texts_cannot_be_changed_after_the_start() -> None:
    with pytest.raises(TypeError):
        catalogue().texts["en"]["activation.activated"] = "changed"  # type: ignore[index]  # that is what is refused


@pytest.fixture
def catalogues(tmp_path: Path) -> Callable[[str, str], Path]:
    def written(chinese: str, english: str) -> Path:
        (tmp_path / "zh-CN.toml").write_text(chinese, encoding="utf-8")
        (tmp_path / "en.toml").write_text(english, encoding="utf-8")
        return tmp_path

    return written


@pytest.mark.parametrize(
    ("chinese", "english", "objection"),
    [
        ('a = "甲"\nb = "乙"', 'a = "A"', "en.toml: b: is missing"),
        ('a = "甲"', 'a = "A"\n[c]\nd = "D"', "zh-CN.toml: c.d: is missing"),
        ('a = "甲 {n}"', 'a = "A {m}"', "a: has other placeholders"),
        ('a = "甲 {n.__class__}"', 'a = "A"', "zh-CN.toml: a: has a placeholder that is more than a name"),
        ('a = "甲 {n!r}"', 'a = "A"', "zh-CN.toml: a: has a placeholder that is more than a name"),
        ('a = "甲 {}"', 'a = "A"', "zh-CN.toml: a: has a placeholder that is more than a name"),
        ('a = "甲 {"', 'a = "A"', "zh-CN.toml: a: "),
        ("a = 1", 'a = "A"', "zh-CN.toml: a: must be a text"),
        ('a = "甲"', 'a = " "', "en.toml: a: must be a text"),
        ('a = "甲"', "a = ", "en.toml: is not TOML: "),
    ],
)
def test_catalogues_that_are_wrong_or_disagree_stop_the_start(
    catalogues: Callable[[str, str], Path], chinese: str, english: str, objection: str
) -> None:
    with pytest.raises(CatalogueError) as refused:
        Catalogue.load(catalogues(chinese, english))
    assert objection in str(refused.value)


def test_a_language_without_a_file_stops_the_start(catalogues: Callable[[str, str], Path]) -> None:
    directory = catalogues('a = "甲"', 'a = "A"')
    (directory / "en.toml").unlink()
    with pytest.raises(CatalogueError, match=r"en\.toml: No such file"):
        Catalogue.load(directory)
