"""The metrics of problems, of the alerts that tell of them, and of what is counted beside them."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.operations.ailment import Ailment
from app.problems.kinds import KINDS, Kind, Severity
from app.storage.problem_facts import Numbers
from app.storage.problems import Known, Look


class ProblemMetrics:
    """No label of an item or a store: a metric says that there is something, `pos-sync status` says what."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._problems = Gauge(
            "pos_sync_problems",
            "Problems that the last look found, by name and severity (docs/runbook.md).",
            ["name", "severity"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._looked_at = self._gauge(
            "pos_sync_problems_looked_at_timestamp_seconds", "When a look for problems last ended.", registry
        )
        self._last_delivery = self._gauge(
            "pos_sync_last_delivery_timestamp_seconds",
            "When the last verified delivery came, to any replica.",
            registry,
        )
        self._registered_at = self._gauge("pos_sync_registered_timestamp_seconds", "When mipOS last took our webhook.", registry)
        self._refusals = self._gauge("pos_sync_open_refusals", "Refused deliveries that wait.", registry)
        self._duplicates = self._gauge("pos_sync_open_suspected_duplicates", "Suspected duplicates that wait.", registry)
        self._database_bytes = self._gauge("pos_sync_database_bytes", "Size of the database.", registry)
        self._table_bytes = Gauge(
            "pos_sync_table_bytes",
            "Size of each of our tables with its indexes.",
            ["table"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._alerts = Counter(
            "pos_sync_alerts",
            "Messages to ALERT_WEBHOOK_URL: sent, failed.",
            ["outcome"],
            registry=registry,
        )
        self._pings = Counter(
            "pos_sync_pings",
            "Pings through PUBLIC_URL: returned, refused, lost.",
            ["state"],
            registry=registry,
        )
        self._ailing: Kind | None = None
        for kind in KINDS:
            for severity in kind.severities:
                self._problems.labels(kind.name, severity.value).set(0)
        for outcome in ("sent", "failed"):
            self._alerts.labels(outcome)
        for state in ("returned", "refused", "lost"):
            self._pings.labels(state)

    @staticmethod
    def _gauge(name: str, about: str, registry: CollectorRegistry) -> Gauge:
        return Gauge(name, about, multiprocess_mode="mostrecent", registry=registry)

    def observe_problems(self, present: Sequence[Known], look: Look) -> None:
        """What the last look found."""
        for kind in KINDS:
            for severity in kind.severities:
                number = sum(one.kind is kind and one.severity is severity for one in present)
                if (kind, severity) == (self._ailing, Severity.CRITICAL):
                    number = max(number, 1)
                self._problems.labels(kind.name, severity.value).set(number)
        if look.looked_at is not None:
            self._looked_at.set(look.looked_at.timestamp())

    def observe_numbers(self, numbers: Numbers) -> None:
        """What is counted beside them."""
        if numbers.last_delivery_at is not None:
            self._last_delivery.set(numbers.last_delivery_at.timestamp())
        if numbers.registered_at is not None:
            self._registered_at.set(numbers.registered_at.timestamp())
        self._refusals.set(numbers.refusals)
        self._duplicates.set(numbers.duplicates)
        self._database_bytes.set(numbers.database_bytes)
        for table, size in numbers.table_bytes.items():
            self._table_bytes.labels(table).set(size)

    def observe_ailment(self, ailment: Ailment | None) -> None:
        """What keeps this worker from writing: no table can tell of it."""
        ailing = None if ailment is None else ailment.kind
        if ailing is not self._ailing:
            for kind in filter(None, (self._ailing, ailing)):
                self._problems.labels(kind.name, Severity.CRITICAL.value).set(kind is ailing)
            self._ailing = ailing

    def observe_alert(self, outcome: str) -> None:
        """A message to the alert webhook: sent or failed."""
        self._alerts.labels(outcome).inc()

    def observe_ping(self, state: str) -> None:
        """What came of a ping."""
        self._pings.labels(state).inc()
