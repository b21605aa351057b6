"""The papers against the code: what they list is all there is, their links lead somewhere, and the README's journey works."""

import re
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from api.client import Api
from contracts.walk import blocks, walked

from service.config import Config

ROOT = Path(__file__).parents[2]
PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], key=str)
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
MESSAGE = "Your social security card has been activated"


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _section(paper: str, heading: str) -> str:
    """What stands under a heading, up to the next of its kind."""
    return _read(paper).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def _settings(paper: str) -> Iterator[tuple[str, str]]:
    """Variables and defaults of the first table."""
    table = _read(paper).split("| variable | default | meaning |\n")[1].split("\n\n")[0]
    yield from re.findall(r"^\| `(\w+)` \| (\S+) \|", table, re.MULTILINE)


def _defaults() -> dict[str, str]:
    """What the code takes when a variable is not set, as the papers write it."""
    fields = Config.model_fields
    told = {f"YIKA_{name.upper()}": str(field.default or "") for name, field in fields.items() if field.default != ()}
    told |= {f"YIKA_{name.upper()}": "" for name, field in fields.items() if field.default == ()}
    return {name: f"`{value}`" if value else "none" for name, value in told.items()}


def test_every_setting_is_on_its_page_with_its_default() -> None:
    assert dict(_settings("docs/configuration.md")) == _defaults()


def test_the_short_table_of_the_readme_says_the_same() -> None:
    short = dict(_settings("README.md"))
    assert short
    assert short.items() <= _defaults().items()


def test_every_setting_says_in_the_code_what_it_is() -> None:
    assert [name for name, field in Config.model_fields.items() if not field.description] == []


def test_every_decision_has_its_number_once_and_its_line_in_the_index() -> None:
    numbers = [page.name[:4] for page in DECISIONS]
    assert numbers == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    index = _read("docs/decisions/README.md")
    assert [page.name for page in DECISIONS if f"]({page.name})" not in index] == []
    assert [page.name for page in DECISIONS if f"# {int(page.name[:4])}. " not in page.read_text(encoding="utf-8")] == []


def _anchors(paper: Path) -> set[str]:
    """The anchors that headings get where the papers are shown."""
    headings = re.findall(r"^#+ (.+)$", paper.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(ROOT)))
def test_every_link_between_the_papers_leads_somewhere(paper: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", paper.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (paper.parent / file).resolve() if file else paper
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_the_map_names_every_module_and_nothing_that_is_not_there() -> None:
    named = [line.split()[0] for block in blocks(_section("ARCHITECTURE.md", "The map"), "") for line in block.splitlines()]
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert len(named) == len(set(named))
    modules = {
        str(file.relative_to(ROOT))
        for room in ("service", "handlers", "schemas", "deploy")
        for file in (ROOT / room).rglob("*.py")
        if file.name != "__init__.py"
    }
    assert modules - set(named) == set()
    rooms = {f"tests/{folder.name}/" for folder in (ROOT / "tests").iterdir() if [*folder.glob("*.py")]}
    assert rooms - set(named) == set()


def test_every_command_that_the_papers_name_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", _read("Makefile"), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        commands = re.findall(r"(?:^|`|… |=\S+ )make ([a-z]+)", _read(name), re.MULTILINE)
        assert commands
        assert set(commands) <= targets, name


async def test_the_journey_of_the_readme_works_as_it_is_written(api: Api) -> None:
    *_, message, receipt = await walked(_section("README.md", "The journey, with curl"), api.url)
    assert message == MESSAGE
    assert f"`{MESSAGE}`" in _read("README.md")
    assert orjson.loads(receipt)["valid"] is True
