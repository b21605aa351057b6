"""Region policy: the shipped packs differ where regions differ, and a wrong pack stops the start in words."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.actors import COUNTERS
from service.errors import Refusal
from service.locale import LOCALES, text
from service.policies import COLLECTION_PLACES, CONFIRMERS, Act, Generation
from service.policy_checks import POSSIBLE, about_generations, is_announced_in_time
from service.regions import (
    ACTS,
    CATEGORIES,
    CHANNELS,
    MATERIALS,
    ONLINE,
    SHIPPED,
    PolicyError,
    Publications,
    Regions,
    months_after,
)
from service.transitions import PERMITTED, Action

# A day on which both the past and the coming cut-off of the shipped packs are judged.
TODAY = date(2026, 11, 22)


@pytest.fixture(scope="module")
def regions() -> Regions:
    return Regions.load_directory(SHIPPED)


def test_the_shipped_regions_are_invented_and_at_least_five(regions: Regions) -> None:
    codes = [region.code for region in regions]
    assert len(codes) >= 5
    assert all(code.startswith("99") for code in codes)
    for locale in LOCALES:
        assert len({region.name(locale) for region in regions}) == len(codes)


def test_the_shipped_regions_really_differ(regions: Regions) -> None:
    policies = [region.policy for region in regions]
    assert {region.interconnected for region in regions} == {True, False}
    assert {policy.formal_loss_cancellable for policy in policies} == {True, False}
    assert {policy.required_assurance for policy in policies} == {2, 3}
    assert {policy.card_number.length for policy in policies} == {9, 12}
    assert {policy.service_pin.initial_value for policy in policies} == {
        "idNumberLastSix",
        "birthDate",
        "oneToSix",
    }
    assert len({policy.temporary_loss_days for policy in policies}) >= 5
    assert len({policy.figures_old_after_hours for policy in policies}) >= 5
    assert len({policy.guardian_age for policy in policies}) >= 2
    assert len({tuple(way.channel for way in policy.activation) for policy in policies}) >= 4
    assert len({policy.service_pin.max_tries for policy in policies}) >= 4
    assert len({policy.card_validity_years for policy in policies}) >= 4
    assert {policy.collection for policy in policies} == set(COLLECTION_PLACES)
    assert {who for policy in policies for who in policy.information_confirmation} == set(CONFIRMERS)
    materials = [way.materials.get("student") for policy in policies for way in policy.activation if way.channel == "bureau"]
    assert len(set(materials)) >= 2


def test_the_shipped_regions_open_the_channels_differently(regions: Regions) -> None:
    channels = {region.code: region.policy.channels for region in regions}
    assert all(set(of_region) == set(ACTS) for of_region in channels.values())
    assert {*channels["990100"]["cancelFormalLoss"]} >= ONLINE
    assert channels["990200"]["cancelFormalLoss"] == ()
    assert channels["990300"]["cancelFormalLoss"] == ("bureau",)
    assert set(channels["990400"]["reportFormalLoss"]) == {"bank", "bureau"}
    assert not ONLINE & set(channels["990700"]["changePin"])
    for region in regions:
        assert region.policy.formal_loss_cancellable == bool(channels[region.code]["cancelFormalLoss"])


@pytest.mark.parametrize("act", [act for act in ACTS if act != "confirmInformation"])
def test_a_pack_may_open_exactly_what_somebody_there_may_do(act: Act) -> None:
    """What a pack can say and what the table of roles allows is one thing, or a region would publish what is refused."""
    named = "cancelLoss" if act in {"cancelTemporaryLoss", "cancelFormalLoss"} else act
    counters = {channel for role, channel in COUNTERS.items() if Action(named) in PERMITTED[role]}
    assert POSSIBLE[act] == counters | (ONLINE if Action(named) in PERMITTED["holder"] else set())


def test_one_region_has_retired_a_generation_and_one_is_in_the_transition(regions: Regions) -> None:
    cut_offs = [generation.cut_off_on for region in regions for generation in region.policy.generations]
    assert any(day is not None and day <= TODAY for day in cut_offs)
    assert any(day is not None and day > TODAY + timedelta(days=365) for day in cut_offs)


def test_a_generation_counts_until_the_day_before_its_cut_off(regions: Regions) -> None:
    policy = regions.get("990400").policy
    cut_off = policy.cut_off_of(2)
    assert cut_off is not None
    assert not policy.is_retired(2, cut_off - timedelta(days=1))
    assert policy.is_retired(2, cut_off)
    assert policy.is_retired(2, cut_off + timedelta(days=400))


def test_the_calendar_of_a_cut_off_is_that_of_china(regions: Regions) -> None:
    region = regions.get("990400")
    midnight = datetime(2026, 6, 29, 16, tzinfo=UTC)
    assert region.policy.cut_off_of(2) == date(2026, 6, 30)
    assert region.is_retired(2, midnight)
    assert not region.is_retired(2, midnight - timedelta(seconds=1))
    assert not region.is_retired(3, midnight)


def test_a_card_expires_so_many_years_after_it_was_made(regions: Regions) -> None:
    assert regions.get("990100").policy.expiry_of(date(2026, 11, 22)) == date(2036, 11, 22)
    assert regions.get("990700").policy.expiry_of(date(2024, 2, 29)) == date(2029, 2, 28)


def test_the_current_generation_and_one_never_announced_are_not_retired(regions: Regions) -> None:
    policy = regions.get("990400").policy
    assert not policy.is_retired(policy.current_generation, date(2099, 1, 1))
    assert not policy.is_retired(1, date(2099, 1, 1))


def test_cards_of_another_region_are_served_when_both_are_interconnected(regions: Regions) -> None:
    one, other, alone = regions.get("990100"), regions.get("990200"), regions.get("990300")
    assert one.serves_cards_of(other)
    assert other.serves_cards_of(one)
    assert not one.serves_cards_of(alone)
    assert not alone.serves_cards_of(one)
    assert alone.serves_cards_of(alone)


def test_the_guide_gives_every_category_in_every_region_a_way(regions: Regions) -> None:
    for region in regions:
        for category in CATEGORIES:
            guide = region.activation_guide(category)
            assert guide.category == category
            assert guide.ways
            assert all(way.materials for way in guide.ways)
            assert [way.channel for way in guide.ways] == [
                channel for channel in CHANNELS if region.policy.may_activate(channel, category)
            ]


def test_a_minor_brings_the_guardian_and_the_household_register_to_a_counter(regions: Regions) -> None:
    ways = {way.channel: way.materials for way in regions.get("990100").activation_guide("minor").ways}
    assert {"guardianIdCard", "householdRegister"} <= set(ways["bureau"])
    assert "guardianLink" in ways["app"]
    assert "hotline" not in ways


def test_everything_a_guide_or_a_card_names_has_a_name_in_both_languages(regions: Regions) -> None:
    for locale in LOCALES:
        assert all(text(locale, f"channels.{channel}") for channel in CHANNELS)
        assert all(text(locale, f"categories.{category}") for category in CATEGORIES)
        assert all(text(locale, f"materials.{material}") for material in MATERIALS)
        for region in regions:
            assert all(bank.name(locale) for bank in region.banks)


def test_published_texts_carry_the_figures_of_the_policy(regions: Regions) -> None:
    for region in regions:
        for published in (getattr(region.policy.publications, field.name) for field in fields(Publications)):
            for locale in LOCALES:
                assert "{" not in published.read_in(locale)
        for locale in LOCALES:
            days = str(region.policy.temporary_loss_days)
            assert days in region.policy.publications.loss_damage_and_replacement.read_in(locale)
            assert region.name(locale) in region.policy.publications.functions_and_uses.read_in(locale)


def test_published_texts_name_the_channels_and_days_of_the_rules(regions: Regions) -> None:
    final = regions.get("990200").policy.publications.loss_damage_and_replacement
    assert "不能撤销" in final.zh
    assert "cannot be cancelled" in final.en
    found = regions.get("990300").policy.publications.loss_damage_and_replacement
    assert "可以撤销（人社窗口）" in found.zh
    assert "it can be cancelled through a bureau window." in found.en
    assert (
        "（卡面银行网点或人社窗口）后卡片立即停用" in regions.get("990400").policy.publications.loss_damage_and_replacement.zh
    )
    scope = regions.get("990400").policy.publications.scope_period_and_method
    assert "2026 年 6 月 30 日" in scope.zh
    assert "30 June 2026" in scope.en


def test_a_text_that_speaks_of_what_is_never_done_is_refused(packs: Callable[..., Path]) -> None:
    never = sound_pack().replace('cancelFormalLoss = ["bank", "bureau"]', "cancelFormalLoss = []")
    with pytest.raises(PolicyError) as refused:
        Regions.load_directory(packs(_990400=never))
    field = "policy.publications.loss_damage_and_replacement"
    assert [(told.field, told.reason) for told in refused.value.objections] == [
        (f"{field}.{language}", "speaks of {cancel_formal_loss_channels}, and by these rules there is none")
        for language in ("zh", "en")
    ]


def test_an_unknown_region_is_not_found(regions: Regions) -> None:
    with pytest.raises(Refusal) as refused:
        regions.get("110105")
    assert refused.value.code == "not_found"


def test_nothing_of_a_region_can_be_changed_after_the_start(regions: Regions) -> None:
    region = regions.get("990100")
    with pytest.raises(FrozenInstanceError):
        region.policy.guardian_age = 3  # type: ignore[misc]  # that is what is refused
    with pytest.raises(TypeError):
        region.policy.activation[0].materials["adult"] = ()  # type: ignore[index]  # that is what is refused
    with pytest.raises(TypeError):
        regions.by_code["990100"] = region  # type: ignore[index]  # that is what is refused


@pytest.mark.parametrize(
    ("day", "later"),
    [
        (date(2026, 1, 15), date(2026, 7, 15)),
        (date(2026, 6, 30), date(2026, 12, 30)),
        (date(2026, 7, 1), date(2027, 1, 1)),
        (date(2025, 8, 31), date(2026, 2, 28)),
        (date(2027, 8, 31), date(2028, 2, 29)),
    ],
)
def test_six_months_are_calendar_months(day: date, later: date) -> None:
    assert months_after(day, 6) == later


DAYS = st.dates(date(2000, 1, 1), date(2199, 12, 31))


def _six_months_on(day: date) -> date:
    """The same by looking at every day around: the last one in the sixth month that is not past the day's own number."""
    around = (day + timedelta(days=days) for days in range(150, 220))
    return max(on for on in around if (on.month - day.month) % 12 == 6 and on.day <= day.day)


@given(announced=DAYS)
@example(date(2025, 8, 31))
@example(date(2027, 8, 29))
@example(date(2027, 8, 30))
@example(date(2099, 8, 31))
@example(date(2026, 12, 31))
def test_the_first_day_a_cut_off_may_take_effect_is_six_months_on(announced: date) -> None:
    first = _six_months_on(announced)
    assert is_announced_in_time(announced, first)
    assert not is_announced_in_time(announced, first - timedelta(days=1))
    assert timedelta(days=181) <= first - announced <= timedelta(days=184)


@given(announced=DAYS, ahead=st.integers(-400, 400))
def test_a_later_cut_off_is_never_worse_and_an_early_one_is_named(announced: date, ahead: int) -> None:
    cut_off = announced + timedelta(days=ahead)
    said = [*about_generations((Generation(2, cut_off, announced), Generation(3)))]
    assert is_announced_in_time(announced, cut_off) == (ahead >= (_six_months_on(announced) - announced).days)
    assert [field for field, _ in said] == ([] if is_announced_in_time(announced, cut_off) else ["0.announced_on"])


def sound_pack() -> str:
    return (SHIPPED / "990400.toml").read_text(encoding="utf-8")


@pytest.fixture
def packs(tmp_path: Path) -> Callable[..., Path]:
    def written(**contents: str) -> Path:
        for name, content in contents.items():
            (tmp_path / f"{name.lstrip('_')}.toml").write_text(content, encoding="utf-8")
        return tmp_path

    return written


def test_a_cut_off_announced_exactly_six_months_ahead_is_accepted(packs: Callable[..., Path]) -> None:
    on_the_day = sound_pack().replace("announced_on = 2025-11-10", "announced_on = 2025-12-30")
    policy = Regions.load_directory(packs(_990400=on_the_day)).get("990400").policy
    assert policy.generations[0].announced_on == date(2025, 12, 30)


@pytest.mark.parametrize("length", [9, 12, 20])
def test_card_numbers_of_every_known_length_are_accepted(packs: Callable[..., Path], length: int) -> None:
    pack = sound_pack().replace("length = 9", f"length = {length}")
    pack = pack.replace("check_character_enforced = true", "check_character_enforced = false")
    assert Regions.load_directory(packs(_990400=pack)).get("990400").policy.card_number.length == length


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("announced_on = 2025-11-10", "announced_on = 2026-01-01", "policy.generations.0.announced_on"),
        ("announced_on = 2025-11-10\n", "", "policy.generations.0.announced_on"),
        ("cut_off_on = 2026-06-30\n", "", "policy.generations.0.announced_on"),
        ("cut_off_on = 2026-06-30", 'cut_off_on = "soon"', "policy.generations.0.cut_off_on"),
        (
            "number = 3",
            "number = 3\nannounced_on = 2030-01-01\ncut_off_on = 2031-01-01",
            "policy.generations.1.cut_off_on",
        ),
        ("number = 3", "number = 1", "policy.generations"),
        ("number = 3", "number = 4", "policy.generations"),
        ("number = 3", "number = 2", "policy.generations"),
        ("length = 9", "length = 10", "policy.card_number"),
        ("length = 9", "length = 12", "policy.card_number"),
        ("length = 9", 'length = "9"', "policy.card_number.length"),
        ("length = 9", "length = 9\nshape = 1", "policy.card_number.shape"),
        ("temporary_loss_days = 15", "temporary_loss_days = 0", "policy.temporary_loss_days"),
        ("temporary_loss_days = 15", "temporary_loss_days = 15.0", "policy.temporary_loss_days"),
        ("temporary_loss_days = 15\n", "", "policy.temporary_loss_days"),
        ("figures_old_after_hours = 36", "figures_old_after_hours = 0", "policy.figures_old_after_hours"),
        ("figures_old_after_hours = 36", "figures_old_after_hours = 1.5", "policy.figures_old_after_hours"),
        ("figures_old_after_hours = 36", "figures_old_after_hours = 9000", "policy.figures_old_after_hours"),
        ("figures_old_after_hours = 36\n", "", "policy.figures_old_after_hours"),
        (
            "temporary_loss_days = 15",
            "temporary_loss_days = 15\nformal_loss_cancellable = true",
            "policy.formal_loss_cancellable",
        ),
        ("card_validity_years = 10", "card_validity_years = 50", "policy.card_validity_years"),
        ('collection = "bank"', 'collection = "post"', "policy.collection"),
        ('"employer", "school", "subDistrict"', "", "policy.information_confirmation"),
        ('"employer", "school", "subDistrict"', '"employer"', "policy.information_confirmation"),
        ('"employer", "school", "subDistrict"', '"subDistrict", "subDistrict"', "policy.information_confirmation.1"),
        ('\nlock = ["bureau"]', '\nlock = ["bureau"]\nactivate = []', "policy.channels.activate"),
        ('replace = ["app", "web", "bank", "bureau"]\n', "", "policy.channels.replace"),
        ('replace = ["app", "web", "bank", "bureau"]', "replace = []", "policy.channels.replace"),
        ('replace = ["app", "web", "bank", "bureau"]', 'replace = ["fax"]', "policy.channels.replace.0"),
        ('replace = ["app", "web", "bank", "bureau"]', 'replace = ["hotline"]', "policy.channels.replace.0"),
        ('replace = ["app", "web", "bank", "bureau"]', 'replace = ["app", "app"]', "policy.channels.replace.1"),
        ('reportFormalLoss = ["bank", "bureau"]', "reportFormalLoss = []", "policy.channels.reportFormalLoss"),
        ('reportFormalLoss = ["bank", "bureau"]', 'reportFormalLoss = ["hotline"]', "policy.channels.reportFormalLoss.0"),
        (
            'cancelTemporaryLoss = ["app", "web", "bank", "bureau"]',
            "cancelTemporaryLoss = []",
            "policy.channels.cancelTemporaryLoss",
        ),
        ('unlock = ["bureau"]', "unlock = []", "policy.channels.unlock"),
        ('unlock = ["bureau"]', 'unlock = ["bureau", "web"]', "policy.channels.unlock.1"),
        ('\ncancel = ["bureau"]', '\ncancel = ["app"]', "policy.channels.cancel.0"),
        ('resetPin = ["bank", "bureau"]', "resetPin = []", "policy.channels.resetPin"),
        ('resetPin = ["bank", "bureau"]', 'resetPin = ["app"]', "policy.channels.resetPin.0"),
        ('changePin = ["app", ', 'changePin = ["hotline", ', "policy.channels.changePin.0"),
        ('confirmInformation = ["app", "web", "bureau"]', "confirmInformation = []", "policy.channels.confirmInformation"),
        ("guardian_age = 16", "guardian_age = 6", "policy.guardian_age"),
        ("guardian_age = 16", "guardian_age = 16\nnew_rule = 1", "policy.new_rule"),
        ("required_assurance = 2", "required_assurance = 1", "policy.required_assurance"),
        ("max_tries = 5", "max_tries = 0", "policy.service_pin.max_tries"),
        ('"idNumberLastSix"', '"whatever"', "policy.service_pin.initial_value"),
        ("interconnected = true\n", "", "interconnected"),
        ('code = "B904"', 'code = "B901"', "banks.1.code"),
        ('code = "B904"', 'code = "no"', "banks.1.code"),
        ('zh = "远帆银行"\n', "", "banks.1.names.zh"),
        ('en = "Yuanfan Bank"', 'en = " "', "banks.1.names"),
        ('zh = "镜澜市"', 'zh = " "', "names"),
        ('zh = "镜澜市"\n', "", "names.zh"),
        ('zh = "镜澜市"', 'zh = "镜澜市"\nfr = "Jinglan"', "names.fr"),
        ('code = "990400"', 'code = "990401"', "code"),
        ('code = "990400"', 'code = "99"', "code"),
        ('channel = "web"', 'channel = "app"', "policy.activation.1.channel"),
        ('channel = "web"', 'channel = "fax"', "policy.activation.1.channel"),
        (
            '[policy.activation.materials]\nadult = ["idNumber", "cardNumber", "identificationCode"]',
            '[policy.activation.materials]\nadult = ["idNumber", "cardNumber"]',
            "policy.activation.0.materials.adult",
        ),
        ('minor = ["guardianLink", ', "minor = [", "policy.activation.0.materials.minor"),
        ('minor = ["card", "guardianIdCard", ', 'minor = ["card", ', "policy.activation.2.materials.minor"),
        ('minor = ["card", ', 'minor = ["idCard", ', "policy.activation.2.materials.minor"),
        (
            'noIdCard = ["card", "householdRegister"]',
            'noIdCard = ["card"]',
            "policy.activation.2.materials.noIdCard",
        ),
        (', "disabilityCertificate"]', "]", "policy.activation.2.materials.disability"),
        (', "workInjuryCertificate"]', ', "passport"]', "policy.activation.2.materials.workInjury.2"),
        ("{temporary_loss_days}", "{days}", "policy.publications.loss_damage_and_replacement.zh"),
        ("{temporary_loss_days}", "{", "policy.publications.loss_damage_and_replacement.zh"),
        (
            "[policy.publications.rights_and_duties]",
            "[policy.publications.rights]",
            "policy.publications.rights_and_duties",
        ),
    ],
)
def test_a_wrong_pack_stops_the_start_and_names_file_and_field(
    packs: Callable[..., Path], old: str, new: str, field: str
) -> None:
    assert old in sound_pack()
    with pytest.raises(PolicyError) as refused:
        Regions.load_directory(packs(_990400=sound_pack().replace(old, new)))
    assert ("990400.toml", field) in {(objection.file, objection.field) for objection in refused.value.objections}
    assert all(objection.reason for objection in refused.value.objections)
    assert f"990400.toml: {field}: " in str(refused.value)


def test_a_category_that_no_channel_serves_stops_the_start(packs: Callable[..., Path]) -> None:
    pack = "\n".join(line for line in sound_pack().splitlines() if not line.startswith("lowIncome"))
    with pytest.raises(PolicyError, match=r"990400\.toml: policy\.activation: .*lowIncome"):
        Regions.load_directory(packs(_990400=pack))


def test_everything_wrong_in_every_pack_is_told_at_once(packs: Callable[..., Path]) -> None:
    one = sound_pack().replace("guardian_age = 16", "guardian_age = 6").replace("max_tries = 5", "max_tries = 0")
    with pytest.raises(PolicyError) as refused:
        Regions.load_directory(packs(_990400=one, _990401=sound_pack(), _990402="code = "))
    assert [objection.file for objection in refused.value.objections] == [
        "990400.toml",
        "990400.toml",
        "990401.toml",
        "990402.toml",
    ]


def test_a_fault_in_one_part_does_not_hide_the_faults_of_another(packs: Callable[..., Path]) -> None:
    pack = sound_pack().replace("guardian_age = 16", "guardian_age = 6").replace('unlock = ["bureau"]', "unlock = []")
    pack = pack.replace("announced_on = 2025-11-10", "announced_on = 2026-06-01").replace(', "lowIncomeCertificate"]', "]")
    pack = pack.replace("{pin_max_tries}", "{tries}")
    with pytest.raises(PolicyError) as refused:
        Regions.load_directory(packs(_990400=pack))
    lines = pack.splitlines()
    for told in refused.value.objections:
        assert told.line is not None
        assert lines[told.line - 1].startswith(f"{told.field.split('.')[-1]} = "), told
    assert [told.field for told in refused.value.objections] == [
        "policy.guardian_age",
        "policy.channels.unlock",
        "policy.generations.0.announced_on",
        "policy.activation.2.materials.lowIncome",
        "policy.activation.3.materials.lowIncome",
        "policy.activation.4.materials.lowIncome",
        "policy.publications.rights_and_duties.zh",
        "policy.publications.rights_and_duties.en",
    ]
    assert str(refused.value).splitlines()[0].endswith(f"(line {lines.index('guardian_age = 6') + 1})")


def test_what_is_missing_is_told_with_the_line_of_the_table_that_lacks_it(packs: Callable[..., Path]) -> None:
    pack = sound_pack().replace("max_tries = 5\n", "").replace('zh = "远帆银行"\n', "")
    with pytest.raises(PolicyError) as refused:
        Regions.load_directory(packs(_990400=pack))
    lines = pack.splitlines()
    assert {(told.field, lines[(told.line or 0) - 1]) for told in refused.value.objections} == {
        ("policy.service_pin.max_tries", "[policy.service_pin]"),
        ("banks.1.names.zh", "[banks.names]"),
    }


def test_a_text_over_several_lines_does_not_shift_the_count(packs: Callable[..., Path]) -> None:
    text_of_lines = '"""\nguardian_age = 6\n[policy]\n{name}"""'
    pack = sound_pack().replace('zh = "在{name}，', f"zh = {text_of_lines} #", 1).replace("max_tries = 5", "max_tries = 0")
    with pytest.raises(PolicyError) as refused:
        Regions.load_directory(packs(_990400=pack.replace("[policy.publications.rights_and_duties]", "[policy.odd]")))
    lines = pack.replace("[policy.publications.rights_and_duties]", "[policy.odd]").splitlines()
    told = {objection.field: lines[(objection.line or 0) - 1] for objection in refused.value.objections}
    assert told["policy.odd"] == "[policy.odd]"
    assert told["policy.service_pin.max_tries"] == "max_tries = 0"


def test_what_is_no_toml_is_told_with_its_line(packs: Callable[..., Path]) -> None:
    broken = sound_pack().replace("guardian_age = 16", "guardian_age 16")
    with pytest.raises(PolicyError) as refused:
        Regions.load_directory(packs(_990400=broken))
    (told,) = refused.value.objections
    assert told.line == broken.splitlines().index("guardian_age 16") + 1
    assert str(told) == f"990400.toml: is not TOML: Expected '=' after a key in a key/value pair (line {told.line})"


def test_a_folder_without_packs_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no policy pack"):
        Regions.load_directory(tmp_path)
