"""promtool: the rules are Prometheus's own, each alert fires on the metric that it is about alone, and each record is right."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alert_rules import FILE, RECORDED

promtool = shutil.which("promtool")
pytestmark = pytest.mark.skipif(promtool is None, reason="promtool is not installed (Debian: prometheus)")

LOOKED_AT = "pos_sync_problems_looked_at_timestamp_seconds"


def run(*arguments: str) -> None:
    ended = subprocess.run([str(promtool), *arguments], capture_output=True, text=True, check=False)
    assert 0 == ended.returncode, ended.stdout + ended.stderr


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"] if "alert" in rule]


def case(rule: dict[str, Any]) -> dict[str, Any]:
    """The problem begins after a minute, and a quarter of a minute later its alert fires, alone."""
    if LOOKED_AT in rule["expr"]:
        series, before = [{"series": f'{LOOKED_AT}{{job="pos-sync"}}', "values": "0x40"}], "2m"
        after = "2m15s"
    else:
        metric = rule["expr"].split("(")[2].split(")")[0].replace("}", ',job="pos-sync"}')
        series = [
            {"series": metric, "values": "0x4 1x20"},
            # The service looks all the time.
            {"series": f'{LOOKED_AT}{{job="pos-sync"}}', "values": "0+15x40"},
        ]
        before, after = "1m", "1m15s"
    labels = {**rule["labels"], "job": "pos-sync"}
    fired = [{"exp_labels": labels, "exp_annotations": rule["annotations"]}]
    return {
        "interval": "15s",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": before, "alertname": rule["alert"], "exp_alerts": []},
            {"eval_time": after, "alertname": rule["alert"], "exp_alerts": fired},
        ],
    }


def run_cases(cases: list[dict[str, Any]], folder: Path) -> None:
    tests = {"rule_files": [str(FILE)], "evaluation_interval": "15s", "tests": cases}
    file = folder / "tests.yml"
    file.write_text(yaml.safe_dump(tests))
    run("test", "rules", str(file))


def test_every_alert_fires_within_a_look(tmp_path: Path) -> None:
    run("check", "rules", str(FILE))
    run_cases([case(rule) for rule in alerts()], tmp_path)


def grows(name: str, number: int, **labels: str) -> dict[str, str]:
    """A counter that grows by five times the number in the middle of the last five of ten minutes, and stands still else."""
    shown = ",".join(f'{label}="{value}"' for label, value in {"job": "pos-sync", **labels}.items())
    return {"series": f"{name}{{{shown}}}", "values": f"0x25 {number}+{number}x4 {5 * number}x9"}


def histogram(name: str, counts: dict[str, int]) -> list[dict[str, str]]:
    """That of two workers."""
    return [grows(f"{name}_bucket", count, instance=worker, le=bound) for worker in "ab" for bound, count in counts.items()]


SERIES = [
    grows("pos_sync_deliveries_total", 60, instance="a", outcome="applied"),
    grows("pos_sync_deliveries_total", 120, instance="b", outcome="applied"),
    grows("pos_sync_deliveries_total", 300, instance="a", outcome="wrong"),
    *histogram("pos_sync_delivery_seconds", {"0.25": 96, "0.5": 98, "1": 100, "+Inf": 100}),
    *histogram("pos_sync_commit_seconds", {"0.125": 0, "0.25": 50, "0.5": 100, "+Inf": 100}),
]
EXPECTED = {
    "pos_sync:deliveries:rate5m": {',outcome="applied"': 3, ',outcome="wrong"': 5},
    "pos_sync:delivery_seconds:p99_5m": {"": 0.75},
    "pos_sync:commit_seconds:p99_5m": {"": 0.495},
}
"""Of each rule, by what its labels hold beside the job"""


def test_every_recording_rule_computes_its_number_over_all_workers(tmp_path: Path) -> None:
    computed = [
        {
            # Rounded, as promtool compares each bit.
            "expr": f"round({name}, 0.001)",
            "eval_time": "10m",
            "exp_samples": [{"labels": f'{{job="pos-sync"{labels}}}', "value": value} for labels, value in samples.items()],
        }
        for name, samples in EXPECTED.items()
    ]
    assert {*RECORDED} == {*EXPECTED}
    run_cases([{"interval": "15s", "input_series": SERIES, "promql_expr_test": computed}], tmp_path)
