"""What Prometheus reads at /metrics. With several workers each writes to files in one folder, and any of them answers for all."""

import os
from collections.abc import Sequence
from datetime import timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from app.operations.problem_metrics import ProblemMetrics
from app.scope import DeliveryLog, DeliveryOutcome
from app.storage.outbox import Backlog
from app.storage.system_levels import DriftSummary

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that prometheus_client itself reads when it is imported."""

OUTBOX_STATES = ("sent", "pending", "dead")
SIGNATURE_FAILURES = ("missing", "wrong")
_COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The service's own metrics, on a registry of their own."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Counter("pos_sync_requests", "Requests answered.", ["status"], registry=registry)
        self._request_seconds = Histogram(
            "pos_sync_delivery_seconds", "From a delivery's first byte to its answer.", buckets=_COMMIT_BUCKETS, registry=registry
        )
        self._deliveries = Counter("pos_sync_deliveries", "Deliveries by outcome.", ["outcome"], registry=registry)
        self._refusals = Counter("pos_sync_refusals", "Deliveries not applied, by reason.", ["reason"], registry=registry)
        self._verified = Counter(
            "pos_sync_signatures_verified", "Verified, by key: current, previous.", ["key"], registry=registry
        )
        self._unverified = Counter(
            "pos_sync_signature_failures", "Not verified, by cause: missing, wrong.", ["cause"], registry=registry
        )
        self._connections = Gauge(
            "pos_sync_connections", "Open connections of callers.", multiprocess_mode="livesum", registry=registry
        )
        self._refused_connections = Counter(
            "pos_sync_connections_refused", "Connections or requests that were refused at the cap.", registry=registry
        )
        self._failed_logins = Counter("pos_sync_page_logins_failed", "Wrong passwords at the page.", registry=registry)
        self._refused_keys = Counter("pos_sync_pos_keys_refused", "Requests of the POS with a wrong key.", registry=registry)
        self._below_zero = Counter("pos_sync_below_zero", "Movements that left a level below zero.", registry=registry)
        self._batch_size = Histogram(
            "pos_sync_batch_size", "Deliveries in a transaction.", buckets=_BATCH_BUCKETS, registry=registry
        )
        self._commit_seconds = Histogram(
            "pos_sync_commit_seconds",
            "From the start of a transaction to its commit.",
            buckets=_COMMIT_BUCKETS,
            registry=registry,
        )
        self._faults = Counter(
            "pos_sync_failed_transactions", "Transactions that failed and were run again, by fault.", ["fault"], registry=registry
        )
        self._waiting = Gauge(
            "pos_sync_waiting_deliveries", "Waiting for the next transaction.", multiprocess_mode="livesum", registry=registry
        )
        self._registered = Gauge(
            "pos_sync_registered", "1 once mipOS has taken our webhook.", multiprocess_mode="max", registry=registry
        )
        self._registration_attempts = Counter(
            "pos_sync_registration_attempts", "Registrations tried, by what came of them.", ["state"], registry=registry
        )
        self._outbox = Counter(
            "pos_sync_outbox_messages",
            "Stock updates tried, by what came of them: sent, pending, dead.",
            ["state"],
            registry=registry,
        )
        self._call_seconds = Histogram(
            "pos_sync_outbox_call_seconds", "A stock update's call to mipOS.", buckets=_CALL_BUCKETS, registry=registry
        )
        # Each worker counts the same table now and then: the newest look is the truth.
        self._outbox_pending = Gauge(
            "pos_sync_outbox_pending", "Stock updates that wait to be sent.", multiprocess_mode="mostrecent", registry=registry
        )
        self._outbox_oldest = Gauge(
            "pos_sync_outbox_oldest_seconds", "Age of the oldest of them.", multiprocess_mode="mostrecent", registry=registry
        )
        self._outbox_dead = Gauge(
            "pos_sync_outbox_dead", "Stock updates that wait for a person.", multiprocess_mode="mostrecent", registry=registry
        )

        self._drift_items = Gauge(
            "pos_sync_drift_items",
            "Items whose stock differs from an inventory system's, by store and cause, as it was last computed.",
            ["store_id", "cause"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._drift_amount = Gauge(
            "pos_sync_drift_amount",
            "By how much they differ together, without regard to sign.",
            ["store_id", "cause"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._drifts: set[tuple[str, str]] = set()
        self._feed_lag = Gauge(
            "pos_sync_change_feed_lag_seconds",
            "How long ago new ledger rows last got their place in the change feed. 0 while nobody has read it.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._clock_skew = Gauge(
            "pos_sync_database_clock_skew_seconds",
            "By how much the database's clock is ahead of this machine's.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )

        self._standby_age = Gauge(
            "pos_sync_standby_age_seconds",
            "How old what is read from DATABASE_READ_URL may be. Above 5 the primary is read instead.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )

        self._problems = ProblemMetrics(registry)

        # So that a rate over the first of its kind is not missed: a series has to be there before it grows.
        for outcome in DeliveryOutcome:
            self._deliveries.labels(outcome.value)
        for cause in SIGNATURE_FAILURES:
            self._unverified.labels(cause)
        for state in OUTBOX_STATES:
            self._outbox.labels(state)
        self._answered: dict[int, Counter] = {}
        self._by_outcome: dict[DeliveryOutcome, Counter] = {}
        self._by_signature: dict[str, Counter] = {}

    @property
    def problems(self) -> ProblemMetrics:
        """Those of problems, alerts and pings."""
        return self._problems

    def observe_connections(self, open_now: int) -> None:
        """Note how many connections of callers this worker has."""
        self._connections.set(open_now)

    def observe_refused_connection(self) -> None:
        """Count one that was refused at the cap on connections."""
        self._refused_connections.inc()

    def observe_failed_login(self) -> None:
        """Count a wrong password at the page."""
        self._failed_logins.inc()

    def observe_refused_key(self) -> None:
        """Count a request of the POS with a key that is none of ours."""
        self._refused_keys.inc()

    def observe_registration(self, state: str, *, attempts: int) -> None:
        """Where the registration stands, and how many attempts of this worker led there."""
        self._registered.set(1 if state == "registered" else 0)
        if attempts:
            self._registration_attempts.labels(state).inc(attempts)

    def on_message(self, state: str) -> None:
        """A stock update was tried."""
        self._outbox.labels(state).inc()

    def on_call(self, seconds: float) -> None:
        """A call to mipOS for a stock update."""
        self._call_seconds.observe(seconds)

    def on_backlog(self, backlog: Backlog) -> None:
        """How many stock updates wait."""
        self._outbox_pending.set(backlog.pending)
        self._outbox_oldest.set(backlog.oldest_seconds)
        self._outbox_dead.set(backlog.dead)

    def observe_drift(self, found: Sequence[DriftSummary]) -> None:
        """What the drift of all levels comes to. What was there and is over is 0."""
        now = {(one.store_id, one.cause): one for one in found}
        for key in self._drifts | set(now):
            one = now.get(key)
            self._drift_items.labels(*key).set(0 if one is None else one.items)
            self._drift_amount.labels(*key).set(0 if one is None else float(one.amount))
        self._drifts |= set(now)

    def observe_feed_lag(self, seconds: float) -> None:
        """How far the change feed is behind the ledger."""
        self._feed_lag.set(seconds)

    def observe_clock_skew(self, skew: timedelta) -> None:
        """How far the database's clock is ahead of this machine's."""
        self._clock_skew.set(skew.total_seconds())

    def observe_standby_age(self, seconds: float) -> None:
        """How old the data of the standby may be."""
        self._standby_age.set(seconds)

    def on_batch(self, *, size: int, seconds: float) -> None:
        """A committed batch."""
        self._batch_size.observe(size)
        self._commit_seconds.observe(seconds)

    def on_fault(self, fault: str) -> None:
        """A transaction that failed."""
        self._faults.labels(fault).inc()

    def observe_request(self, *, status: int, seconds: float, delivery: DeliveryLog | None) -> None:
        """An answered request, and what became of it where it is a delivery."""
        # Looking a series up by its labels takes longer than counting: what every delivery counts is kept at hand.
        answered = self._answered.get(status)
        if answered is None:
            answered = self._answered[status] = self._requests.labels(str(status))
        answered.inc()
        if delivery is None or delivery.outcome is DeliveryOutcome.PING:
            return
        self._request_seconds.observe(seconds)
        outcome = delivery.outcome
        deliveries = self._by_outcome.get(outcome)
        if deliveries is None:
            deliveries = self._by_outcome[outcome] = self._deliveries.labels(outcome.value)
        deliveries.inc()
        if delivery.reason is not None:
            self._refusals.labels(delivery.reason).inc()
        if delivery.signature is not None:
            self._count_signature(delivery.signature)
        if delivery.is_negative:
            self._below_zero.inc()

    def _count_signature(self, signature: str) -> None:
        counter = self._by_signature.get(signature)
        if counter is None:
            kind = self._unverified if signature in SIGNATURE_FAILURES else self._verified
            counter = self._by_signature[signature] = kind.labels(signature)
        counter.inc()

    def exposition(self, *, waiting: int) -> bytes:
        """All of it in Prometheus's text format; of all workers where there are several. `waiting` is this worker's line."""
        self._waiting.set(waiting)
        if MULTIPROCESS_FOLDER not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)
