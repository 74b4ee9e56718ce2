"""Writes deploy/prometheus/rules.yml from the kinds of problems, so that an alert has their names, severities and words.

python -m tests.support.alert_rules
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.problems.judging import MAX_WATCH_AGE
from app.problems.kinds import KINDS, WATCH, Kind, Severity

FILE = Path(__file__).parents[2] / "deploy/prometheus/rules.yml"
RUNBOOK = "docs/runbook.md"
HEAD = """# Alerts and recording rules of mipos-pos-sync, for Prometheus. Generated: python -m tests.support.alert_rules
# `runbook_url` is a path in this repository: put the address of your copy before it.
"""


def alert_name(kind: Kind) -> str:
    """As Prometheus's own rules are called."""
    return "PosSync" + "".join(part.capitalize() for part in kind.name.split("_"))


def _alerts() -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        for severity in kind.severities:
            if severity is not Severity.INFO and kind is not WATCH:
                metric = f'pos_sync_problems{{name="{kind.name}",severity="{severity.value}"}}'
                yield _alert(kind, severity, f"max by (job) ({metric}) > 0")
    # What was said last, since a service that died says nothing any more.
    looked_at = "max by (job) (last_over_time(pos_sync_problems_looked_at_timestamp_seconds[1d]))"
    age = f"time() - {looked_at} > {MAX_WATCH_AGE.total_seconds():g}"
    yield _alert(WATCH, Severity.CRITICAL, age)


def _alert(kind: Kind, severity: Severity, expression: str) -> dict[str, Any]:
    return {
        "alert": alert_name(kind),
        "expr": expression,
        "labels": {"severity": severity.value, "problem": kind.name},
        "annotations": {
            "summary": f"{kind.title}.",
            "description": f"`pos-sync status` says which, since when and by how much. What to do first: {kind.remedy}",
            "runbook_url": f"{RUNBOOK}#{kind.name}",
        },
    }


RECORDED = {
    "pos_sync:deliveries:rate5m": "sum by (job, outcome) (rate(pos_sync_deliveries_total[5m]))",
    "pos_sync:delivery_seconds:p99_5m": (
        "histogram_quantile(0.99, sum by (job, le) (rate(pos_sync_delivery_seconds_bucket[5m])))"
    ),
    "pos_sync:commit_seconds:p99_5m": "histogram_quantile(0.99, sum by (job, le) (rate(pos_sync_commit_seconds_bucket[5m])))",
}


def rules() -> str:
    """The file. JSON's text in YAML's frame, so that every string is quoted."""
    lines = [HEAD + "groups:"]
    groups = [
        ("pos-sync-problems", list(_alerts())),
        ("pos-sync-recorded", [{"record": name, "expr": expression} for name, expression in RECORDED.items()]),
    ]
    for name, members in groups:
        lines.append(f"  - name: {name}\n    interval: 15s\n    rules:")
        for rule in members:
            for number, (key, value) in enumerate(rule.items()):
                lead = "      - " if number == 0 else "        "
                if isinstance(value, dict):
                    lines.append(f"{lead}{key}:")
                    lines += [f"          {part}: {json.dumps(text, ensure_ascii=False)}" for part, text in value.items()]
                else:
                    lines.append(f"{lead}{key}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(rules())
