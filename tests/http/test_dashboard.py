"""Every metric that a rule or a panel names is one that a live service tells."""

import json
import re

import httpx2
import pytest
import yaml

from app.problems.kinds import KINDS
from tests.support import alert_rules, dashboard
from tests.support.sender import PATH, body_of, signed

_METRIC = re.compile(r"\bpos_sync_[a-z0-9_]+")
_LABELLED = re.compile(r"(pos_sync_[a-z0-9_]+)\{([^}]*)\}")


def queries() -> list[str]:
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    rules = [rule for group in yaml.safe_load(alert_rules.FILE.read_text())["groups"] for rule in group["rules"]]
    return [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules]


def test_the_dashboard_is_as_it_is_generated() -> None:
    assert dashboard.dashboard() == dashboard.FILE.read_text()


async def test_every_metric_that_is_asked_for_exists(client: httpx2.AsyncClient) -> None:
    body = body_of()
    assert 204 == (await client.post(PATH, content=body, headers=signed(body))).status_code
    told = {line.split("{")[0].split(" ")[0] for line in (await client.get("/metrics")).text.splitlines() if line[:1] != "#"}
    # These have labels of stores, tables, reasons or faults, and no series before the first.
    described = {line.split(" ")[2] for line in (await client.get("/metrics")).text.splitlines() if line.startswith("# TYPE")}
    known = told | described | {f"{name}_total" for name in described}
    asked = {name for query in queries() for name in _METRIC.findall(query)}

    assert asked <= known, asked - known
    assert asked


@pytest.mark.parametrize("query", queries())
def test_every_query_is_balanced_and_names_labels_that_exist(query: str) -> None:
    names = {kind.name for kind in KINDS}
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)
    for metric, labels in _LABELLED.findall(query):
        wanted = dict(re.findall(r'([a-z_]+)="([^"]*)"', labels))
        if metric == "pos_sync_problems" and "name" in wanted:
            assert wanted["name"] in names
