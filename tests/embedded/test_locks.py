"""The lock files against each other and against what runs these tests."""

import re
from importlib import metadata
from pathlib import Path

import pytest

LOCKS = Path(__file__).parents[2] / "deploy" / "lock"


def pins(kind: str) -> set[str]:
    return set(re.findall(r"^[a-z].*?==[^\\\n]+", (LOCKS / f"{kind}.txt").read_text(), re.MULTILINE))


def test_each_lock_holds_every_pin_of_the_smaller_one_so_that_one_environment_serves_for_all() -> None:
    assert pins("runtime") < pins("sandbox") < pins("dev")
    assert pins("runtime") < pins("tracing") < pins("dev")


def test_the_lock_of_a_deployment_has_no_database_server() -> None:
    for kind in ("runtime", "tracing"):
        assert not [pin for pin in pins(kind) if pin.startswith(("fiftyone", "secantus"))]
    assert not [pin for pin in pins("runtime") if pin.startswith("opentelemetry")]


@pytest.mark.parametrize("kind", ["runtime", "tracing", "sandbox", "dev"])
def test_every_pin_has_hashes_and_no_address_is_recorded(kind: str) -> None:
    text = (LOCKS / f"{kind}.txt").read_text()
    requirements = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(requirements) == len(pins(kind))
    assert all("--hash=sha256:" in requirement for requirement in requirements)
    assert not re.search(r"://|--index|--find-links|@ |/home/|/tmp/", text)


def test_the_tests_run_on_what_the_lock_says() -> None:
    locked = dict(pin.split(";")[0].strip().split("==") for pin in pins("dev") if "python_full_version" not in pin)
    for name in ("aiohttp", "motor", "pymongo", "pydantic", "cryptography", "pyjwt"):
        assert metadata.version(name) == locked[name]
