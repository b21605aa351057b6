"""Institutions as an administrator writes them down."""

from pathlib import Path

import pytest

from service.actors import COUNTERS, STAFF_ROLES
from service.enrolments import read_institution
from service.ids import OperatorId, is_id, new_id
from service.locale import Bilingual
from service.operators import WORKPLACES, Operator
from service.regions import SHIPPED, Regions
from service.sandbox.invention import Inventor
from service.strict_toml import FaultyFileError

REGIONS = Regions.load_directory(SHIPPED)
GOOD = """\
kind = "bank"
regions = ["990100", "990200"]
bank = "B902"
credit_code = "91990100PDY00001XX"

[names]
zh = "云栖支行"
en = "Yunqi outlet"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "outlet.toml"


def _sound() -> str:
    """The file with a credit code that is one."""
    return GOOD.replace("91990100PDY00001XX", Inventor("outlet").credit_code("990100"))


def test_a_file_becomes_an_institution_the_same_for_the_same_credit_code(file: Path) -> None:
    file.write_text(_sound(), encoding="utf-8")
    first = read_institution(file, REGIONS)
    assert is_id("ins", first.institution_id)
    assert (first.names, first.kind, first.region_codes) == (
        Bilingual("云栖支行", "Yunqi outlet"),
        "bank",
        ("990100", "990200"),
    )
    assert first.bank_code == "B902"
    file.write_text(_sound().replace('["990100", "990200"]', '["990200"]'), encoding="utf-8")
    second = read_institution(file, REGIONS)
    assert second.institution_id == first.institution_id
    assert second.region_codes == ("990200",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("bank = ", "bnak = "), "bnak"),
        (('kind = "bank"', 'kind = "shop"'), "kind"),
        (('regions = ["990100", "990200"]', "regions = []"), "regions"),
        (('"990200"]', '"123456"]'), "regions: names a region that is not served here"),
        (('"990200"]', '"990100"]'), "regions: names a region twice"),
        (('"B902"', '"B999"'), "bank: issues cards in none of these regions"),
        (('bank = "B902"\n', ""), "bank: is the code of a bank"),
        (('kind = "bank"', 'kind = "hospital"'), "bank: is the code of a bank"),
        (('en = "Yunqi outlet"', 'en = ""'), "names"),
        (('credit_code = "9', 'credit_code = "8'), "credit_code: is no unified social credit code"),
        (("kind", "kind ="), "is not TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_file_and_field(file: Path, change: tuple[str, str], told: str) -> None:
    text = _sound()
    assert change[0] in text
    file.write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(FaultyFileError) as fault:
        read_institution(file, REGIONS)
    assert str(fault.value).startswith("outlet.toml: ")
    assert told in str(fault.value)


def test_every_role_has_a_place_and_acts_through_the_channel_of_that_place(file: Path) -> None:
    file.write_text(_sound(), encoding="utf-8")
    place = read_institution(file, REGIONS)
    assert {*WORKPLACES} == {*STAFF_ROLES}
    for role in STAFF_ROLES:
        actor = Operator(OperatorId(new_id("op")), "li.0002", "李四光", role, place, disabled=False).actor()
        # An employer and a producer stand behind no counter.
        assert actor.channel == COUNTERS.get(role)
        assert (actor.channel or WORKPLACES[role]) == WORKPLACES[role]
        assert actor.region_codes == frozenset({"990100", "990200"})
        assert (actor.role, actor.institution_id, actor.bank_code) == (role, place.institution_id, "B902")


def test_who_is_designated_to_redeem_ecards_says_so_and_nobody_else_is(file: Path) -> None:
    file.write_text(_sound(), encoding="utf-8")
    assert read_institution(file, REGIONS).redeems_ecards is False
    file.write_text(f"redeems_ecards = true\n{_sound()}", encoding="utf-8")
    assert read_institution(file, REGIONS).redeems_ecards is True


def test_an_institution_where_nobody_is_shown_an_ecard_is_not_designated(file: Path) -> None:
    bureau = _sound().replace('kind = "bank"', 'kind = "bureau"').replace('bank = "B902"\n', "")
    file.write_text(f"redeems_ecards = true\n{bureau}", encoding="utf-8")
    with pytest.raises(FaultyFileError, match="redeems_ecards: is for a bank or a hospital, and for nobody else"):
        read_institution(file, REGIONS)
