"""What people are told: the table, the words in both languages, their length, quiet hours, and a region's own rules."""

import re
import shutil
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.addresses import InvalidAddress, mask_email, parse_email
from service.announcements import OPTIONAL_KINDS, RULES, Topic, topic_of
from service.clock import CHINA
from service.locale import LOCALES, Locale, catalogue, placeholders
from service.message_policies import LONGEST_QUIET, QuietHours
from service.regions import SHIPPED, PolicyError, Regions
from service.sign_ins import family_of
from service.transitions import TRANSITIONS
from service.wordings import SMS_PARTS, Words, signed, sms_parts

CODES = ("verification_code", "hotline_code", "email_code")
TEMPLATES = sorted({rule.template for rule in RULES.values()})
# Longer than anything that the service puts there.
LONGEST = {"code": "123456", "minutes": 10, "region": "某" * 12, "place": "某" * 40, "purpose": "某" * 40, "way": "某" * 20}
LINK = re.compile(r"://|www\.|\.(?:cn|com|net|org)\b")


def words(template: str, locale: Locale) -> Words:
    return Words(template, locale, LONGEST)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("template", [*TEMPLATES, *CODES])
def test_every_text_message_fits_into_three_parts_and_leads_nowhere(template: str, locale: Locale) -> None:
    sms = words(template, locale).sms
    assert sms.startswith({"zh-CN": "【智慧人社】", "en": "[Smart HRSS] "}[locale])
    assert sms_parts(sms) <= SMS_PARTS
    assert not LINK.search(sms)
    assert "\n" not in sms


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("template", [*TEMPLATES, "email_code"])
def test_every_letter_is_headed_and_says_the_sentence_of_the_text_message_without_a_link(template: str, locale: Locale) -> None:
    written = words(template, locale)
    assert written.said in written.letter
    assert written.sms.endswith(written.said)
    assert len(written.letter) > len(written.said) + 40
    assert not LINK.search(written.letter)
    assert "<" not in written.letter
    assert written.subject
    assert "\n" not in written.subject
    assert not placeholders(catalogue().texts[locale][f"subjects.{template}"])


def test_parts_are_counted_as_providers_count_them() -> None:
    assert [sms_parts("字" * length) for length in (1, 70, 71, 134, 135, 201, 202)] == [1, 1, 2, 2, 3, 3, 4]
    # A sign beyond the first plane takes two units.
    assert sms_parts("𠮷" * 35) == 1
    assert sms_parts("𠮷" * 36) == 2


def test_security_is_neither_declined_nor_put_off_and_nothing_else_is_of_no_kind() -> None:
    assert set(RULES) == set(Topic)
    for rule in RULES.values():
        if rule.kind == "security":
            assert (rule.optional, rule.waits) == (False, False)
        else:
            assert rule.kind in OPTIONAL_KINDS
            assert rule.waits
    # What can be declined is there in every kind that can be declined, or a preference would say nothing.
    assert {rule.kind for rule in RULES.values() if rule.optional} == set(OPTIONAL_KINDS)
    assert len(TEMPLATES) == len(RULES)


def test_the_paper_has_the_table_as_it_is() -> None:
    paper = (Path(__file__).parents[2] / "docs" / "messages.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in paper.splitlines() if line.startswith("| `")]
    written = {row[0]: (row[1], row[2], row[4], row[5]) for row in rows if row[0] in set(Topic)}
    yes = {True: "yes", False: "no"}
    assert written == {
        str(topic): (rule.template, rule.kind, yes[rule.optional], yes[rule.waits]) for topic, rule in RULES.items()
    }


def test_whatever_is_done_to_a_card_is_told() -> None:
    told = {transition.happening: topic_of(transition.happening) for transition in TRANSITIONS.values()}
    # A right PIN opens nothing by itself; what it opened is told where it was.
    assert [happening for happening, topic in told.items() if topic is None] == ["pinChecked"]
    assert topic_of("medicalPaidOut") is None


# --- quiet hours ---

NIGHT = QuietHours(time(22), time(8))
NOON = QuietHours(time(13), time(14, 30))


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    """A moment of a day at +08:00, in UTC."""
    return datetime(2026, 11, 22, hour, minute, second, tzinfo=CHINA).astimezone(UTC)


@pytest.mark.parametrize(
    ("quiet", "moment", "over"),
    [
        (NIGHT, at(21, 59, 59), at(21, 59, 59)),
        (NIGHT, at(22), at(8) + timedelta(days=1)),
        (NIGHT, at(23, 59), at(8) + timedelta(days=1)),
        (NIGHT, at(0), at(8)),
        (NIGHT, at(7, 59, 59), at(8)),
        (NIGHT, at(8), at(8)),
        (NOON, at(12, 59), at(12, 59)),
        (NOON, at(13), at(14, 30)),
        (NOON, at(14, 29), at(14, 30)),
        (NOON, at(14, 30), at(14, 30)),
    ],
)
def test_what_waits_goes_when_the_quiet_hours_are_over(quiet: QuietHours, moment: datetime, over: datetime) -> None:
    assert quiet.over_at(moment) == over


@given(
    st.integers(0, 24 * 60 - 1),
    st.integers(1, 12 * 60),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  as hypothesis wants bounds
)
def test_no_message_goes_in_quiet_hours_nor_waits_longer_than_they_last(begins: int, minutes: int, moment: datetime) -> None:
    day = datetime(2000, 1, 1, tzinfo=UTC)
    quiet = QuietHours((day + timedelta(minutes=begins)).time(), (day + timedelta(minutes=begins + minutes)).time())
    assert quiet.length == timedelta(minutes=minutes)
    over = quiet.over_at(moment)
    assert timedelta() <= over - moment <= quiet.length
    assert quiet.over_at(over) == over


# --- what a region decides ---


@pytest.fixture(scope="module")
def regions() -> Regions:
    return Regions.load_directory(SHIPPED)


def test_the_shipped_regions_differ_in_what_they_decide_about_messages(regions: Regions) -> None:
    policies = [region.policy.messages for region in regions]
    assert {policy.tell_counter_look_ups for policy in policies} == {True, False}
    assert len({policy.quiet_hours for policy in policies}) >= 4
    assert None in {policy.quiet_hours for policy in policies}
    assert any(policy.signature for policy in policies)
    assert any(policy.texts for policy in policies)


def test_a_regions_own_words_and_signature_take_the_place_of_ours(regions: Regions) -> None:
    own = regions.get("990700").policy.messages.texts["looked_up"]
    said = Words("looked_up", "en", {"place": "an outlet"}, own.text, own.subject)
    assert said.sms.startswith("[Smart HRSS] Staff of an outlet have just looked up your card details; the access log has")
    assert said.subject == "Staff have looked up your card details"
    assert signed("好。", "zh-CN", regions.get("990200").policy.messages.signature) == "【棠汀人社】好。"


def objections(tmp_path: Path, before: str, after: str) -> list[str]:
    """What is wrong with the packs when one of them says something else about messages."""
    shutil.copytree(SHIPPED, tmp_path, dirs_exist_ok=True)
    pack = tmp_path / "990700.toml"
    text = pack.read_text(encoding="utf-8")
    assert before in text
    pack.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(PolicyError) as refused:
        Regions.load_directory(tmp_path)
    return [str(objection) for objection in refused.value.objections]


@pytest.mark.parametrize(
    ("before", "after", "field", "reason"),
    [
        ("tell_counter_look_ups = true\n", "", "policy.messages.tell_counter_look_ups", "Field required"),
        ("tell_counter_look_ups = true", 'tell_counter_look_ups = "yes"', "policy.messages.tell_counter_look_ups", "boolean"),
        ("ends = 08:30:00", "ends = 22:30:00", "policy.messages.quiet_hours.ends", "12 hours at most"),
        ("ends = 08:30:00", "ends = 12:00:00", "policy.messages.quiet_hours.ends", "12 hours at most"),
        ("ends = 08:30:00", "ends = 08:30:30", "policy.messages.quiet_hours.ends", "whole minute"),
        ("ends = 08:30:00", 'ends = "08:30:00+08:00"', "policy.messages.quiet_hours.ends", "without an offset"),
        ("ends = 08:30:00", "ends = 08:30:00\nlength = 3", "policy.messages.quiet_hours.length", "Unexpected"),
        ("texts.looked_up.text", "texts.verification_code.text", "policy.messages.texts.verification_code", "no message that"),
        ("texts.looked_up.text", "texts.no_such.text", "policy.messages.texts.no_such", "no message that"),
        ('en = "Staff of {place} have', 'en = "Staff {name} have', "policy.messages.texts.looked_up.text.en", "does not fill"),
        (
            'en = "Staff of {place} have',
            'en = "Staff {place!r} have',
            "policy.messages.texts.looked_up.text.en",
            "more than a name",
        ),
        (
            'en = "Staff of {place} have',
            'en = "See https://a.example: {place}',
            "policy.messages.texts.looked_up.text.en",
            "a link",
        ),
        (
            'en = "Staff of {place} have',
            f'en = "{"far " * 60}',
            "policy.messages.texts.looked_up.text.en",
            "than 3 text messages",
        ),
        ('en = "Staff have looked', 'en = "{place} have looked', "policy.messages.texts.looked_up.subject.en", "does not fill"),
        ('zh = "有工作人员查询了您的社保卡信息"', 'zh = ""', "policy.messages.texts.looked_up.subject", "not be empty"),
    ],
)
def test_what_a_region_gets_wrong_about_messages_is_named(
    tmp_path: Path, before: str, after: str, field: str, reason: str
) -> None:
    found = objections(tmp_path, before, after)
    assert [objection for objection in found if f": {field}" in objection and reason in objection], found


@pytest.mark.parametrize("signature", ["一", "某" * 21, "【人社】", "人社{name}"])
def test_a_signature_is_a_plain_name(tmp_path: Path, signature: str) -> None:
    own = f'[policy.messages.signature]\nzh = "{signature}"\nen = "HRSS"\n\n[policy.messages.quiet_hours]'
    found = objections(tmp_path, "[policy.messages.quiet_hours]", own)
    assert any("policy.messages.signature.zh" in objection for objection in found), found


def test_the_longest_quiet_hours_leave_half_a_day() -> None:
    assert timedelta(hours=12) == LONGEST_QUIET
    assert QuietHours(time(20), time(8)).length == LONGEST_QUIET


# --- addresses and clients ---


@pytest.mark.parametrize(
    "text",
    ["zhang.wei@example.com", " Zhang.Wei@Example.COM ", "a@b.cn", "a+b_c-d@mail.xn--fiqs8s", "x" * 64 + "@example.com"],
)
def test_an_address_is_kept_in_small_letters(text: str) -> None:
    assert parse_email(text) == text.strip().lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zhang.wei",
        "a@b",
        "@example.com",
        "a@.com",
        "a..b@example.com",
        "a@example..com",
        ".a@example.com",
        "a b@example.com",
        "a@example.com\nBcc: b@example.com",
        '"a"@example.com',
        "a@[127.0.0.1]",
        "张@example.com",
        "a@例子.中国",
        "a@-example.com",
        "x" * 65 + "@example.com",
        "a@" + "x" * 64 + ".com",
        "a@" + "xy." * 90 + "com",
        "a@example.c0m",
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        parse_email(text)
    assert str(refused.value) == ""


def test_an_address_is_masked_but_for_its_first_sign_and_domain() -> None:
    assert mask_email("zhang.wei@example.com") == "z****@example.com"
    assert mask_email("a@b.cn") == "a****@b.cn"


@pytest.mark.parametrize(
    ("user_agent", "family"),
    [
        (
            "Mozilla/5.0 (Linux; Android 14; V2) AppleWebKit/537.36 Chrome/120 Mobile Safari/537.36 AlipayClient/10.5",
            "alipay/android",
        ),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) Version/17.1 Mobile Safari/604.1", "safari/ios"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/119 Safari/537.36 Edg/119", "edge/windows"),
        ("Mozilla/5.0 (Phone; OpenHarmony 5.0) ArkWeb/4.1 Mobile MicroMessenger/8.0", "wechat/harmony"),
        ("python-requests/2.31", "other/other"),
        ("", "other/other"),
    ],
)
def test_a_client_is_known_by_its_family_and_no_more(user_agent: str, family: str) -> None:
    assert family_of(user_agent) == family
    assert family_of(re.sub(r"\d", "7", user_agent)) == family
