"""Alert rules and dashboard against a running service: every metric and label they name is there, every question parses."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from api.client import Api
from prometheus_client.parser import text_string_to_metric_families

from service.server import Served

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
SCRAPE = ROOT / "deploy" / "prometheus" / "scrape.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "yika.json"
# What Prometheus itself adds to everything that it collects, and what it knows of its targets.
ADDED = {"job", "instance"}
TARGETS = {"up": ADDED}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def recorded() -> dict[str, str]:
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> dict[str, str]:
    """Every question by where it stands, as Prometheus would be asked it."""
    asked = {f"rule {rule.get('alert') or rule.get('record')}": rule["expr"] for rule in rules()}
    for panel in panels():
        for target in panel.get("targets", ()):
            asked[f"panel {panel['title']} {target['refId']}"] = target["expr"].replace("$__rate_interval", "5m")
    return asked


EXPRESSIONS = expressions()


def selectors(expression: str) -> Iterator[tuple[str, set[str], dict[str, set[str]]]]:
    """What an expression asks for: names of metrics, labels they are told apart by, and values that are asked for."""
    found: list[Any] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    for node in found:
        values = {
            matcher.name: set(matcher.value.split("|"))
            for matcher in node.matchers.matchers
            if not re.search(r"[.*+()\[\]]", matcher.value)
        }
        yield str(node.name), {matcher.name for matcher in node.matchers.matchers}, values


def grouped(expression: str) -> set[str]:
    """The labels that something is summed by."""
    labels: set[str] = set()

    def visit(node: Any) -> bool:
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
            labels.update(modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return labels


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_question_parses(where: str) -> None:
    assert promql_parser.parse(EXPRESSIONS[where]).prettify()


def test_a_question_that_is_none_does_not_parse() -> None:
    for wrong in ("sum(rate(yika_requests_total[5m])", "rate(yika_requests_total)", "yika_requests_total{code=}", "sum by"):
        with pytest.raises(ValueError, match=r"\w"):
            promql_parser.parse(wrong)


async def exposed(served: Served) -> dict[str, tuple[set[str], dict[str, set[str]]]]:
    """Every sample that a running service shows: by name its labels, and what stands in them."""
    async with Api(served.admin_url) as admin:
        text = (await admin.send("GET", "/metrics", checked=False)).raw.decode()
    there: dict[str, tuple[set[str], dict[str, set[str]]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels, values = there.setdefault(sample.name, (set(), {}))
            labels |= set(sample.labels)
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    return there


async def traffic(api: Api) -> None:
    """Something of everything that is counted."""
    client = await api.sign_in("sealed")
    details = await api.details("sealed")
    assert (await client.activate(details | {"cardNumber": (await api.details("active"))["cardNumber"]})).status == 422
    assert (await client.activate(details, "k")).json["result"] == "activated"
    assert (await client.activate(details, "k")).headers["Idempotency-Replayed"] == "true"
    assert (await client.activate(details)).json["result"] == "alreadyActivated"
    card_id = (await client.get("/v1/cards")).json["items"][0]["cardId"]
    assert (await client.get(f"/v1/cards/{card_id}/balance")).status == 200
    assert (await client.get("/v1/housing-fund")).status == 200
    assert (await (await api.sign_in("locked")).activate(await api.details("locked"))).code == "card_not_activatable"
    assert (await api.sign_in_as_staff("bank-own", password="wrong-password-of-sixteen")).status == 403
    assert (await api.sign_in_staff("hospital")).token
    await api.messages((await api.persona("sealed"))["mobile"])


async def test_every_metric_and_label_that_is_asked_for_is_there_after_some_traffic(api: Api, served: Served) -> None:
    await traffic(api)
    async with asyncio.timeout(30):
        # The ledger's first checkpoint is made when there is something to say it about.
        while "yika_ledger_checkpoint_age_seconds" not in (there := await exposed(served)):
            await asyncio.sleep(0.2)
    records = {name: ({*grouped(asked)}, dict[str, set[str]]()) for name, asked in recorded().items()}
    known: Mapping[str, tuple[set[str], dict[str, set[str]]]] = (
        there | records | {name: (labels, {}) for name, labels in TARGETS.items()}
    )
    missing: list[str] = []
    for where, expression in EXPRESSIONS.items():
        asked = list(selectors(expression))
        assert asked, where
        for name, labels, values in asked:
            if name not in known:
                missing.append(f"{where}: no metric {name}")
                continue
            has, stands = known[name]
            missing += [f"{where}: {name} has no label {label}" for label in labels - has - ADDED]
            missing += [
                f"{where}: {name} never has {label}={value}"
                for label, wanted in values.items()
                if label in CLOSED and label in stands
                for value in wanted - CLOSED[label] - stands[label]
                if value
            ]
        by = set().union(*(known[name][0] for name, _, _ in asked if name in known)) | ADDED | {"le"}
        missing += [f"{where}: nothing has label {label} to sum by" for label in grouped(expression) - by]
    assert missing == []


# Words that are only seen when something goes wrong; the code says that there are such.
CLOSED = {
    "result": {
        *("activated", "alreadyActivated", "replayed", "signedIn", "answered", "card_details_mismatch"),
        *("internal", "outcome_unknown", "unavailable", "overloaded"),
    },
    "status": {"500", "503"},
    "state": set[str](),
    "method": set[str](),
    "reason": {"none"},
}


async def test_activations_sign_ins_and_refusals_are_told_apart(api: Api, served: Served) -> None:
    before = await samples(served)
    await traffic(api)
    after = await samples(served)

    def more(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return after.get(key, 0) - before.get(key, 0)

    for result, count in {
        "activated": 1,
        "alreadyActivated": 1,
        "replayed": 1,
        "card_details_mismatch": 1,
        "locked": 1,
    }.items():
        assert more("yika_activations_total", channel="app", result=result) == count, result
    assert more("yika_refusals_total", code="card_not_activatable", reason="locked") == 1
    assert more("yika_refusals_total", code="card_details_mismatch", reason="none") == 1
    assert more("yika_sign_ins_total", method="sms", result="signedIn") == 2
    assert more("yika_sign_ins_total", method="staff", result="signedIn") == 1
    assert more("yika_sign_ins_total", method="staff", result="sign_in_failed") == 1
    assert more("yika_shared_trips_total", collection="cards", kind="read") > 0
    assert more("yika_event_loop_lag_seconds_count") > 0
    assert after["yika_gauges_read", frozenset({("source", "relay")})] == 1


async def samples(served: Served) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    async with Api(served.admin_url) as admin:
        text = (await admin.send("GET", "/metrics", checked=False)).raw.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def anchors(paper: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", (ROOT / paper).read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_every_alarm_says_how_bad_it_is_and_leads_to_what_to_do(alert: Mapping[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"]
    paper, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert paper == "docs/operations.md"
    assert anchor in anchors(paper)


def test_every_threshold_is_explained_where_it_stands() -> None:
    lines = ALERTS.read_text().splitlines()
    bare = [line for line, after in pairwise(lines) if "- alert:" in line and not after.strip().startswith("#")]
    assert bare == []


def test_names_are_given_once() -> None:
    named = [rule.get("alert") or rule.get("record") for rule in rules()]
    assert len(named) == len(set(named)) > 15
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids)) > 25
    titles = [panel["title"] for panel in panels()]
    assert len(titles) == len(set(titles))


def test_the_dashboard_has_a_row_for_each_question_and_no_panel_over_another() -> None:
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == ["Activations", "Refusals", "Look-ups", "Latency", "Relay", "Ledger", "Process"]
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_example_of_collecting_takes_the_rules_that_are_there() -> None:
    example = yaml.safe_load(SCRAPE.read_text())
    assert [(SCRAPE.parent / name).exists() for name in example["rule_files"]] == [True]
    (job,) = example["scrape_configs"]
    assert job["job_name"] == "yika"
