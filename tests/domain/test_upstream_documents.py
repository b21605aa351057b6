"""The border to a city's systems: a document is taken whole, or nobody ever sees any of it."""

import copy
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pytest

from service.balances import Account, Figure
from service.contributions import Contribution, ContributionRecord, Month, Report
from service.gateways.upstream import MOST_BYTES, UpstreamWrong, Whose
from service.housing_funds import HOUSING_FUND_CODES, HousingFund, HousingFundAccount, HousingFundStatus
from service.ids import HolderId
from service.upstream_documents import (
    MOST_ROWS,
    contributions_document,
    figures_document,
    housing_fund_document,
    read_contributions,
    read_figures,
    read_housing_fund,
)

NOW = datetime(2026, 11, 22, 8, 0, 0, tzinfo=UTC)
AT = NOW - timedelta(hours=3)
WHOSE = Whose(HolderId("hld_" + "a" * 24), "11010519491231002X")

FIGURES = (
    Figure(Account.MEDICAL, 123_456, "normal", AT, "medicalInsuranceBureau"),
    Figure(Account.HOUSING_FUND, 0, "transferred", AT, "housingFundCentre"),
)
RECORD = ContributionRecord(
    (
        Report("socialInsuranceBureau", AT, (Contribution("110", Month("2026-10"), 830_000, 66_400, 132_800, "paid"),)),
        Report("medicalInsuranceBureau", AT, ()),
    )
)
FUND = HousingFund(
    "housingFundCentre",
    AT,
    HousingFundAccount("990012344711", HousingFundStatus.SEALED, 1_234_500, 0, Month("2026-09"), date(2019, 7, 1)),
)
NO_FUND = HousingFund("housingFundCentre", AT, None)

READERS: dict[str, tuple[Callable[..., object], bytes, object]] = {
    "figures": (read_figures, figures_document(FIGURES, WHOSE), FIGURES),
    "no figures": (read_figures, figures_document((), WHOSE), ()),
    "contributions": (read_contributions, contributions_document(RECORD, WHOSE), RECORD),
    "fund": (read_housing_fund, housing_fund_document(FUND, WHOSE), FUND),
    "no fund": (read_housing_fund, housing_fund_document(NO_FUND, WHOSE), NO_FUND),
}


def refused(kind: str, document: bytes, now: datetime = NOW) -> str:
    reader = READERS[kind][0]
    with pytest.raises(UpstreamWrong) as wrong:
        reader(document, WHOSE, now)
    return wrong.value.fault


def changed(kind: str, *path: str | int, to: Any) -> bytes:
    told = orjson.loads(READERS[kind][1])
    node = told
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = to
    return orjson.dumps(told)


@pytest.mark.parametrize("kind", READERS)
def test_what_is_written_is_read_again(kind: str) -> None:
    reader, document, value = READERS[kind]
    assert reader(document, WHOSE, NOW) == value


@pytest.mark.parametrize("kind", READERS)
def test_a_document_about_somebody_else_is_refused(kind: str) -> None:
    assert refused(kind, changed(kind, "idNumber", to="110105194912310038")) == "person"
    assert refused(kind, changed(kind, "idNumber", to="")) == "person"


@pytest.mark.parametrize("kind", READERS)
def test_a_document_that_is_cut_off_empty_or_no_object_is_refused(kind: str) -> None:
    whole = READERS[kind][1]
    for document in (whole[: len(whole) // 2], b"", b"null", b"[]", b'"text"', b"<html>", b"\xff\xfe", whole + b"x"):
        assert refused(kind, document) == "shape"


@pytest.mark.parametrize("kind", READERS)
def test_a_document_without_a_bound_is_not_even_parsed(kind: str) -> None:
    assert refused(kind, b" " * MOST_BYTES + READERS[kind][1]) == "tooLarge"


AMOUNTS: list[tuple[str, tuple[str | int, ...]]] = [
    ("figures", ("figures", 0, "balanceFen")),
    ("contributions", ("reports", 0, "rows", 0, "baseFen")),
    ("contributions", ("reports", 0, "rows", 0, "personalFen")),
    ("contributions", ("reports", 0, "rows", 0, "employerFen")),
    ("fund", ("account", "balanceFen")),
    ("fund", ("account", "monthlyDepositFen")),
]


@pytest.mark.parametrize(("kind", "path"), AMOUNTS, ids=[path[-1] for _, path in AMOUNTS])
@pytest.mark.parametrize("amount", [-1, "100", 1.5, 1.0, True, None, 10**12 + 1, 10**30, [], {}])
def test_an_amount_is_a_whole_number_of_fen_from_nothing_to_what_there_can_be(
    kind: str, path: tuple[str | int, ...], amount: Any
) -> None:
    if amount == 10**30:
        document = changed(kind, *path, to=7_777_777).replace(b"7777777", b"1" + b"0" * 30)
    else:
        document = changed(kind, *path, to=amount)
    assert refused(kind, document) == "shape"


MOMENTS: list[tuple[str, tuple[str | int, ...]]] = [
    ("figures", ("figures", 1, "asOf")),
    ("contributions", ("reports", 1, "asOf")),
    ("fund", ("asOf",)),
]


@pytest.mark.parametrize(("kind", "path"), MOMENTS)
def test_a_moment_is_one_that_has_been_and_names_its_zone(kind: str, path: tuple[str | int, ...]) -> None:
    assert refused(kind, changed(kind, *path, to=(NOW + timedelta(minutes=6)).isoformat())) == "future"
    for text in ("2026-11-22T08:00:00", "yesterday", "", 1_795_334_400, None):
        assert refused(kind, changed(kind, *path, to=text)) == "shape"
    a_little_ahead = changed(kind, *path, to=(NOW + timedelta(minutes=4)).isoformat())
    READERS[kind][0](a_little_ahead, WHOSE, NOW)


def test_a_moment_is_kept_in_milliseconds_of_utc() -> None:
    told = changed("fund", "asOf", to="2026-11-22T15:00:00.123987+08:00")
    assert read_housing_fund(told, WHOSE, NOW).as_of == datetime(2026, 11, 22, 7, 0, 0, 123_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "path", "to"),
    [
        ("figures", ("figures", 0, "account"), "savings"),
        ("figures", ("figures", 0, "source"), ""),
        ("figures", ("figures", 0, "source"), "<b>bold</b>"),
        ("figures", ("figures", 0, "source"), "x" * 65),
        ("figures", ("figures",), None),
        ("contributions", ("reports", 0, "rows", 0, "code"), "390"),
        ("contributions", ("reports", 0, "rows", 0, "code"), 110),
        ("contributions", ("reports", 0, "rows", 0, "month"), "2026-13"),
        ("contributions", ("reports", 0, "rows", 0, "month"), 202610),
        ("contributions", ("reports", 0, "rows", 0, "status"), "perhaps"),
        ("contributions", ("reports",), []),
        ("fund", ("account", "number"), "12"),
        ("fund", ("account", "number"), "9900 1234 4711"),
        ("fund", ("account", "number"), 990012344711),
        ("fund", ("account", "status"), "02"),
        ("fund", ("account", "status"), "none"),
        ("fund", ("account", "paidThrough"), "2026-9"),
        ("fund", ("account", "openedOn"), "2019-02-30"),
        ("fund", ("account",), False),
    ],
)
def test_a_word_that_is_none_of_ours_is_refused(kind: str, path: tuple[str | int, ...], to: Any) -> None:
    assert refused(kind, changed(kind, *path, to=to)) == "shape"


@pytest.mark.parametrize("kind", ["figures", "contributions", "fund"])
def test_a_member_too_many_or_too_few_is_refused(kind: str) -> None:
    told = orjson.loads(READERS[kind][1])
    assert refused(kind, orjson.dumps(told | {"name": "x"})) == "shape"
    for member in told:
        less = copy.deepcopy(told)
        del less[member]
        assert refused(kind, orjson.dumps(less)) == "shape"


def test_an_account_has_states_of_its_own() -> None:
    assert refused("figures", changed("figures", "figures", 0, "status", to="sealed")) == "status"
    assert refused("figures", changed("figures", "figures", 1, "status", to="suspended")) == "status"
    read_figures(changed("figures", "figures", 1, "status", to="frozen"), WHOSE, NOW)


def test_the_same_twice_is_refused() -> None:
    twice = [Figure(Account.MEDICAL, fen, "normal", AT, "medicalInsuranceBureau") for fen in (1, 2)]
    assert refused("figures", figures_document(twice, WHOSE)) == "twice"
    row = Contribution("110", Month("2026-10"), 1, 1, 1, "paid")
    two = ContributionRecord(tuple(Report(source, AT, (row,)) for source in ("one-office", "another")))
    assert refused("contributions", contributions_document(two, WHOSE)) == "twice"


def test_rows_have_a_bound() -> None:
    row = orjson.loads(contributions_document(RECORD, WHOSE))["reports"][0]["rows"][0]
    assert refused("contributions", changed("contributions", "reports", 0, "rows", to=[row] * (MOST_ROWS + 1))) == "shape"


def test_every_state_of_the_standard_has_a_word_of_ours() -> None:
    assert sorted(HOUSING_FUND_CODES) == ["01", "02", "03", "04", "05", "06", "99"]
    assert set(HOUSING_FUND_CODES.values()) == set(HousingFundStatus)
