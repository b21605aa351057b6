import pytest

from handlers.routing import MethodNotAllowedError, Routing
from service.errors import Refusal

ROUTING = Routing(
    [
        ("GET", "/things", "list"),
        ("POST", "/things", "make"),
        ("GET", "/things/{thing_id}", "show"),
        ("GET", "/things/latest", "latest"),
        ("POST", "/things/{thing_id}/parts/{part_id}", "mend"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/things", ("list", "/things", {})),
        ("POST", "/things", ("make", "/things", {})),
        ("GET", "/things/x", ("show", "/things/{thing_id}", {"thing_id": "x"})),
        ("GET", "/things/latest", ("latest", "/things/latest", {})),
        ("GET", "/things/a%2Fb%41", ("show", "/things/{thing_id}", {"thing_id": "a/bA"})),
        ("POST", "/things/x/parts/y", ("mend", "/things/{thing_id}/parts/{part_id}", {"thing_id": "x", "part_id": "y"})),
    ],
)
def test_a_path_is_found_part_by_part(method: str, path: str, found: tuple[str, str, dict[str, str]]) -> None:
    assert ROUTING.find(method, path) == found


@pytest.mark.parametrize(
    "path",
    ["/", "", "/thing", "/things/", "/things//", "//things", "/things/x/parts", "/things/x/parts/", "/things/x/y", "/%74hings"],
)
def test_what_is_not_there_is_not_found(path: str) -> None:
    with pytest.raises(Refusal) as refused:
        ROUTING.find("GET", path)
    assert refused.value.code == "not_found"


def test_another_method_is_told_which_there_are() -> None:
    with pytest.raises(MethodNotAllowedError) as told:
        ROUTING.find("DELETE", "/things")
    assert told.value.allowed == ("GET", "POST")


def test_the_same_row_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="twice"):
        Routing([("GET", "/a", "1"), ("GET", "/a", "2")])
