"""What a run comes to: bench/results/latest.md, a plot beside it, and the raw figures as JSON."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.load import LEVELS
from bench.machine import describe
from bench.measurement import FEW_LEVELS, NOOP, OURS, PEER, TEXTBOOK, Latency, Memory, Sample, Sent, median_of

RESULTS = Path(__file__).with_name("results")


@dataclass
class Results:
    """All that was measured in one run; what was left out is empty."""

    command: str
    seconds: float = 0
    rounds: int = 0
    load: str = ""
    postgres: str = ""
    skipped: list[str] = field(default_factory=list)
    """What could not be measured here, and why."""
    samples: list[Sample] = field(default_factory=list)
    rivals: list[Sample] = field(default_factory=list)
    replicas: list[Sample] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    empty_ledger: list[Sample] = field(default_factory=list)
    large_ledger: list[Sample] = field(default_factory=list)
    ledger_rows: int = 0
    memory: list[Memory] = field(default_factory=list)
    deliveries: list[Sample] = field(default_factory=list)
    recordings: list[Sample] = field(default_factory=list)
    sent: Sent | None = None
    page_times: Mapping[str, float] = field(default_factory=dict)
    without_people: list[Sample] = field(default_factory=list)
    beside_people: list[Sample] = field(default_factory=list)
    without_prune: list[Sample] = field(default_factory=list)
    beside_prune: list[Sample] = field(default_factory=list)
    movement_bytes: dict[str, float] = field(default_factory=dict)

    def medians(self) -> dict[tuple[int, int, str], Sample]:
        """(workers, connections, name) -> the medians of its rounds."""
        keys = sorted({(s.workers, s.connections, s.name) for s in self.samples})
        return {key: median_of([s for s in self.samples if (s.workers, s.connections, s.name) == key]) for key in keys}


@dataclass(frozen=True, slots=True)
class Promise:
    """One figure that has to be reached."""

    text: str
    found: float
    limit: float
    is_at_least: bool

    @property
    def is_kept(self) -> bool:
        """Whether it was reached."""
        return self.found >= self.limit if self.is_at_least else self.found <= self.limit


def _by_round(beside: Sequence[Sample], alone: Sequence[Sample]) -> float:
    """The median of the rounds' ratios: the two of a round run one after the other, so a machine that slows down moves both."""
    return statistics.median(one.rate / other.rate for one, other in zip(beside, alone, strict=True))


def promises(results: Results) -> list[Promise]:
    """The figures that were measured, beside what they have to be: the one place in which the limits stand."""
    found = [*_rival_promises(results), *_replica_promises(results)]
    medians = results.medians()
    ours, textbook = (medians.get((1, 64, name)) for name in (OURS, TEXTBOOK))
    if ours and textbook:
        text = "rate, 64 connections, one worker: times the textbook handler's"
        found.append(Promise(text, ours.rate / textbook.rate, 8, True))
    if results.latencies:
        ratio = statistics.median(latency.ours / latency.direct for latency in results.latencies)
        found.append(Promise("median at 1 connection: times that of one transaction made directly", ratio, 1.1, False))
    if results.large_ledger:
        ratio = median_of(results.large_ledger).rate / median_of(results.empty_ledger).rate
        found.append(Promise(f"rate with {results.ledger_rows:,} rows in the ledger: of the empty ledger's", ratio, 0.95, True))
    if results.recordings:
        ratio = median_of(results.recordings).rate / median_of(results.deliveries).rate
        found.append(Promise("POS movements recorded over HTTP: of the webhook's rate", ratio, 0.4, True))
    if results.beside_prune:
        ratio = _by_round(results.beside_prune, results.without_prune)
        found.append(Promise("rate while a prune deletes old messages: of the rate without it", ratio, 0.9, True))
    if results.page_times:
        slowest = max(results.page_times, key=lambda path: results.page_times[path])
        text = f"the slowest page ({slowest}), median in milliseconds"
        found.append(Promise(text, results.page_times[slowest], 200, False))
    if results.beside_people:
        ratio = _by_round(results.beside_people, results.without_people)
        found.append(Promise("rate while ten people click at the page: of the rate without them", ratio, 0.9, True))
    if results.sent is not None:
        busy = results.sent.busy / results.sent.parallel
        found.append(Promise("relay against a mipOS that answers in 20 ms: of its parallel calls busy", busy, 0.8, True))
        found.append(Promise("messages of a pair that came out of order", results.sent.disorder, 0, False))
    if len(results.memory) >= MEMORY_SAMPLES:
        found.append(
            Promise("memory at the end of a steady load: times that after its first fifth", growth(results.memory), 1.1, False)
        )
    return found


def _rival_promises(results: Results) -> list[Promise]:
    found = []
    for levels in (FEW_LEVELS, LEVELS):
        there = f"64 connections, one worker, {levels:,} levels"
        ours, noop, peer = (_median_at(results.rivals, levels, name=name) for name in (OURS, NOOP, PEER))
        if ours and noop:
            found.append(Promise(f"rate, {there}: of the no-op endpoint's", ours.rate / noop.rate, 1, True))
            text = f"CPU of service and Postgres, {there}: times the no-op's"
            # Without its Postgres, which does nothing for it.
            found.append(Promise(text, ours.cpu / noop.service_cpu, 1.2, False))
            found.append(Promise(f"99th percentile, {there}: times the no-op's", ours.p99_ms / noop.p99_ms, 1.5, False))
        if ours and peer:
            found.append(Promise(f"rate, {there}: times the Fastify handler's", ours.rate / peer.rate, 1.5, True))
    return found


def _replica_promises(results: Results) -> list[Promise]:
    found = []
    for levels in (FEW_LEVELS, LEVELS):
        one, two = (_median_at(results.replicas, levels, replicas=number) for number in (1, 2))
        if one and two:
            found.append(Promise(f"two replicas, {levels:,} levels: CPU a delivery, times one's", two.cpu / one.cpu, 1.25, False))
            found.append(Promise(f"two replicas, {levels:,} levels: rate, of one's", two.rate / one.rate, 1, True))
    return found


def _median_at(samples: Sequence[Sample], levels: int, *, name: str = OURS, replicas: int = 1) -> Sample | None:
    there = [s for s in samples if (s.levels, s.name, s.replicas) == (levels, name, replicas)]
    return median_of(there) if there else None


MEMORY_SAMPLES = 10


def growth(memory: Sequence[Memory]) -> float:
    """The memory of the last fifth, against that of the second fifth: the first is start-up."""
    fifth = len(memory) // 5
    early, late = memory[fifth : 2 * fifth], memory[-fifth:]
    return statistics.median(m.megabytes for m in late) / statistics.median(m.megabytes for m in early)


def medians_of_runs(names: Sequence[str]) -> list[Promise]:
    """Each figure's median over whole runs, whose files in bench/results have these names."""
    found: dict[str, list[Promise]] = {}
    for name in names:
        for fields in json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["promises"]:
            found.setdefault(fields["text"], []).append(Promise(**fields))
    return [replace(same[0], found=statistics.median(one.found for one in same)) for same in found.values()]


def write(results: Results, name: str) -> Path:
    """Write all of it to bench/results, in files of that name; the page's path."""
    RESULTS.mkdir(exist_ok=True)
    raw = {"promises": [asdict(promise) for promise in promises(results)], **asdict(results)}
    (RESULTS / f"{name}.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    if results.samples:
        _plot(results, RESULTS / f"{name}.svg")
    page = RESULTS / f"{name}.md"
    page.write_text("\n".join(_page(results, name)) + "\n", encoding="utf-8")
    return page


def _page(results: Results, name: str) -> list[str]:
    lines = [
        "# What `make bench` measured",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {describe()}, {results.postgres}, load by {results.load}; all on this machine.",
        f"Command: `{results.command}`. Medians of {results.rounds} rounds of {results.seconds:g} s, by turns. What the columns",
        "mean, and why only ratios count: [bench/README.md](../README.md).",
        "",
        "| promise | found | limit | kept |",
        "|---|--:|--:|---|",
    ]
    for promise in promises(results):
        bound = "at least" if promise.is_at_least else "at most"
        lines.append(
            f"| {promise.text} | {promise.found:.2f} | {bound} {promise.limit:g} | {'yes' if promise.is_kept else '**no**'} |"
        )
    lines += ["", *(f"Not measured: {what}." for what in results.skipped)] if results.skipped else []
    lines += _goal_table(results)
    if results.samples:
        lines += ["", f"![rates by connections]({name}.svg)", "", *_table(results)]
    if results.latencies:
        lines += [
            "",
            "One connection, medians in ms, round by round:",
            "",
            "| pos-sync, over HTTP | one transaction by asyncpg | ratio |",
        ]
        lines += ["|--:|--:|--:|"]
        lines += [f"| {pair.ours:.2f} | {pair.direct:.2f} | {pair.ours / pair.direct:.2f} |" for pair in results.latencies]
    if results.large_ledger:
        empty, large = median_of(results.empty_ledger), median_of(results.large_ledger)
        lines += ["", "| ledger | per s | service CPU s/1000 | Postgres CPU s/1000 |", "|---|--:|--:|--:|"]
        for kind, sample in (("empty", empty), (f"{results.ledger_rows:,} rows", large)):
            lines.append(f"| {kind} | {sample.rate:.0f} | {sample.service_cpu:.3f} | {sample.postgres_cpu:.3f} |")
    if results.sent is not None:
        sent = results.sent
        lines += [
            "",
            f"The relay sent {sent.messages:,} messages in {sent.seconds:.1f} s, with {sent.busy:.2f} of {sent.parallel}",
        ]
        lines += ["allowed calls at a time."]
    if results.movement_bytes:
        lines += ["", "| of a movement, with indexes | bytes |", "|---|--:|"]
        lines += [f"| {part} | {size:.0f} |" for part, size in results.movement_bytes.items()]
    if results.memory:
        lines += ["", "| s under load | deliveries | memory, MB |", "|--:|--:|--:|"]
        step = max(1, len(results.memory) // 10)
        shown = (
            results.memory[::step]
            if results.memory[-1] in results.memory[::step]
            else [*results.memory[::step], results.memory[-1]]
        )
        lines += [f"| {m.seconds:.0f} | {m.answers:,} | {m.megabytes:.1f} |" for m in shown]
    return lines


def _goal_table(results: Results) -> list[str]:
    if not results.rivals and not results.replicas:
        return []
    lines = [
        "",
        "64 connections, one worker each:",
        "",
        "| levels | | replicas | per s | p50 ms | p99 ms | service CPU s/1000 | Postgres CPU s/1000 |",
        "|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for samples in (results.rivals, results.replicas):
        for levels, name, replicas in sorted({(s.levels, s.name, s.replicas) for s in samples}):
            sample = median_of([s for s in samples if (s.levels, s.name, s.replicas) == (levels, name, replicas)])
            lines.append(
                f"| {levels:,} | {name} | {replicas} | {sample.rate:.0f} | {sample.p50_ms:.1f} | {sample.p99_ms:.1f}"
                f" | {sample.service_cpu:.3f} | {sample.postgres_cpu:.3f} |"
            )
    return lines


def _table(results: Results) -> list[str]:
    medians = results.medians()
    lines = [
        "| workers | connections | | per s | of no-op | p50 ms | p99 ms | service CPU s/1000 | Postgres CPU s/1000 |",
        "|--:|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for (workers, connections, name), sample in medians.items():
        noop = medians.get((workers, connections, NOOP))
        ratio = f"{sample.rate / noop.rate:.2f}" if noop else ""
        lines.append(
            f"| {workers} | {connections} | {name} | {sample.rate:.0f} | {ratio} | {sample.p50_ms:.1f} | {sample.p99_ms:.1f}"
            f" | {sample.service_cpu:.3f} | {sample.postgres_cpu:.3f} |"
        )
    return lines


def _plot(results: Results, file: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only where something is drawn

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "pos-sync"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    medians = results.medians()
    workers = sorted({key[0] for key in medians})
    figure, axes = plt.subplots(1, len(workers), figsize=(5 * len(workers), 3.6), sharey=True, squeeze=False)
    for axis, count in zip(axes[0], workers, strict=True):
        connections = sorted({key[1] for key in medians if key[0] == count})
        for name, colour in ((NOOP, "#888888"), (OURS, "#0a7d4f"), (TEXTBOOK, "#b5482a")):
            rates = [medians[count, number, name].rate for number in connections if (count, number, name) in medians]
            if rates:
                axis.plot([str(number) for number in connections], rates, marker="o", label=name, color=colour)
        axis.set_title(f"{count} worker" + ("s" if count > 1 else ""))
        axis.set_xlabel("connections")
        axis.set_ylim(bottom=0)
        axis.grid(visible=True, alpha=0.3)
    axes[0][0].set_ylabel("deliveries per second")
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
