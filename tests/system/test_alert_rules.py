"""promtool: the rules are Prometheus's own, and each alert fires on the metric that it is about, and on nothing else."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alert_rules import FILE

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


def test_every_alert_fires_within_a_look(tmp_path: Path) -> None:
    run("check", "rules", str(FILE))
    tests = {"rule_files": [str(FILE)], "evaluation_interval": "15s", "tests": [case(rule) for rule in alerts()]}
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump(tests))
    run("test", "rules", str(file))
