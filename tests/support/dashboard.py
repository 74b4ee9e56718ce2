"""Writes deploy/grafana/pos-sync.json, a Grafana dashboard; a test asks a live /metrics for each metric that it names.

python -m tests.support.dashboard
"""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "deploy/grafana/pos-sync.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 8, 7
COLUMNS = 24 // WIDTH

JOBS = "label_values(pos_sync_problems, job)"
_JOB = 'job="$job"'
PANELS = [
    # title, unit, queries by legend
    ("Problems", "none", {"{{name}} ({{severity}})": f"max by (name, severity) (pos_sync_problems{{{_JOB}}}) > 0"}),
    ("Since the last look for problems", "s", {"age": f"time() - max(pos_sync_problems_looked_at_timestamp_seconds{{{_JOB}}})"}),
    ("Since the last verified delivery", "s", {"age": f"time() - max(pos_sync_last_delivery_timestamp_seconds{{{_JOB}}})"}),
    ("Deliveries by outcome", "reqps", {"{{outcome}}": f"sum by (outcome) (rate(pos_sync_deliveries_total{{{_JOB}}}[5m]))"}),
    ("Refusals by reason", "reqps", {"{{reason}}": f"sum by (reason) (rate(pos_sync_refusals_total{{{_JOB}}}[5m]))"}),
    (
        "Signatures",
        "reqps",
        {
            "verified by the {{key}} key": f"sum by (key) (rate(pos_sync_signatures_verified_total{{{_JOB}}}[5m]))",
            "not verified: {{cause}}": f"sum by (cause) (rate(pos_sync_signature_failures_total{{{_JOB}}}[5m]))",
        },
    ),
    (
        "From first byte to answer",
        "s",
        {
            f"p{part}": f"histogram_quantile(0.{part}, sum by (le) (rate(pos_sync_delivery_seconds_bucket{{{_JOB}}}[5m])))"
            for part in ("50", "99")
        },
    ),
    (
        "Transactions",
        "s",
        {
            f"p{part}": f"histogram_quantile(0.{part}, sum by (le) (rate(pos_sync_commit_seconds_bucket{{{_JOB}}}[5m])))"
            for part in ("50", "99")
        },
    ),
    (
        "Deliveries in a transaction",
        "none",
        {
            "mean": f"sum(rate(pos_sync_batch_size_sum{{{_JOB}}}[5m])) / sum(rate(pos_sync_batch_size_count{{{_JOB}}}[5m]))",
            "waiting": f"sum(pos_sync_waiting_deliveries{{{_JOB}}})",
        },
    ),
    (
        "Failed transactions by fault",
        "reqps",
        {"{{fault}}": f"sum by (fault) (rate(pos_sync_failed_transactions_total{{{_JOB}}}[5m]))"},
    ),
    (
        "Stock updates that wait",
        "none",
        {"pending": f"max(pos_sync_outbox_pending{{{_JOB}}})", "dead": f"max(pos_sync_outbox_dead{{{_JOB}}})"},
    ),
    ("Age of the oldest stock update", "s", {"age": f"max(pos_sync_outbox_oldest_seconds{{{_JOB}}})"}),
    ("Drift by cause", "none", {"{{store_id}}: {{cause}}": f"max by (store_id, cause) (pos_sync_drift_items{{{_JOB}}}) > 0"}),
    (
        "What waits for a person",
        "none",
        {
            "refusals": f"max(pos_sync_open_refusals{{{_JOB}}})",
            "suspected duplicates": f"max(pos_sync_open_suspected_duplicates{{{_JOB}}})",
        },
    ),
    (
        "Connections of callers",
        "none",
        {
            "open": f"sum(pos_sync_connections{{{_JOB}}})",
            "refused a second": f"sum(rate(pos_sync_connections_refused_total{{{_JOB}}}[5m]))",
        },
    ),
    (
        "Tables",
        "bytes",
        {"{{table}}": f"max by (table) (pos_sync_table_bytes{{{_JOB}}})", "database": f"max(pos_sync_database_bytes{{{_JOB}}})"},
    ),
    ("Pings through PUBLIC_URL", "reqps", {"{{state}}": f"sum by (state) (rate(pos_sync_pings_total{{{_JOB}}}[1h]))"}),
    ("Clock of the database", "s", {"ahead by": f"max(pos_sync_database_clock_skew_seconds{{{_JOB}}})"}),
]


def _panel(number: int, title: str, unit: str, queries: dict[str, str]) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": number % COLUMNS * WIDTH, "y": number // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": None if title.startswith("Clock") else 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for place, (legend, query) in enumerate(queries.items())
        ],
    }


def dashboard() -> str:
    """The file."""
    document = {
        "uid": "mipos-pos-sync",
        "title": "mipos-pos-sync",
        "tags": ["pos-sync"],
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                {"name": "source", "type": "datasource", "query": "prometheus"},
                {
                    "name": "job",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": "label_values(pos_sync_problems, job)",
                    "refresh": 2,
                },
            ]
        },
        "panels": [_panel(number, *panel) for number, panel in enumerate(PANELS)],
    }
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(dashboard())
