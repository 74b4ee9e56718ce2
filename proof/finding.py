"""What a fault came to, and the page that tells it."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

from proof.book import Book


@dataclass
class Finding:
    """One line of the summary."""

    fault: str
    """What was done, in a few words."""
    rounds: int | None = None
    deliveries: int | None = None
    acknowledged: int | None = None
    lost: int | None = None
    """Movements that were answered 204 and are not in the ledger; and those that are not in it when all was sent again."""
    doubled: int | None = None
    """Ledger rows above one for each movement."""
    notes: list[str] = field(default_factory=list)
    """Facts that were seen, for the page."""
    problems: Counter[str] = field(default_factory=Counter)
    """What must not be, and how often it was."""
    skipped: str | None = None
    """Why it did not run."""
    not_promised: str | None = None
    """What was seen where nothing is promised"""

    @property
    def verdict(self) -> str:
        """One word, or why there is none."""
        if self.skipped is not None:
            return f"skipped: {self.skipped}"
        if self.is_failed:
            return "FAILED"
        return "held" if self.not_promised is None else f"not promised: {self.not_promised}"

    @property
    def is_failed(self) -> bool:
        """Whether anything was lost, doubled, or otherwise as it must not be."""
        return bool(self.lost or self.doubled or self.problems)

    def close(self, book: Book) -> None:
        """Take over what the book counted."""
        self.deliveries = book.deliveries
        self.problems.update(book.problems)
        self.notes.append(f"answers: {told(book.answers)}; the slowest took {book.slowest:.2f} s")
        if book.broken:
            self.notes.append(f"{book.broken} connections ended without an answer")


def told(answers: Counter[int]) -> str:
    """Statuses and how often each came, such as "204 x 12, 503 x 1"."""
    return ", ".join(f"{status} x {number}" for status, number in sorted(answers.items())) or "none"


_COLUMNS = ("fault", "rounds", "deliveries", "acknowledged", "lost", "doubled", "verdict")


def rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """The summary: one row for each finding, "n/a" where a column has no meaning."""
    return [
        (
            it.fault,
            *("n/a" if number is None else f"{number:,}" for number in _numbers(it)),
            it.verdict,
        )
        for it in findings
    ]


def _numbers(it: Finding) -> tuple[int | None, ...]:
    return it.rounds, it.deliveries, it.acknowledged, it.lost, it.doubled


def table(findings: Sequence[Finding]) -> str:
    """The summary for a terminal."""
    cells = [_COLUMNS, *rows(findings)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    last = len(_COLUMNS) - 1
    return "\n".join(
        "  ".join(
            cell if column == last else cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


def page(findings: Sequence[Finding], *, command: str, seconds: float, postgres: str, others: Sequence[str]) -> str:
    """docs/proof.md."""
    lines = [
        "# Proof",
        "",
        "Made by a command, not by hand. [proof/README.md](../proof/README.md) says how it works and what each column means.",
        "",
        f"    {command}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {seconds / 60:.0f} minutes, on {_machine()}. {_versions(postgres, others)}",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|---|" + "---:|" * (len(_COLUMNS) - 2) + "---|",
        *("| " + " | ".join(row) + " |" for row in rows(findings)),
        "",
        "Durations are of this machine, which other programs shared; nothing above depends on them.",
    ]
    for it in findings:
        if not it.notes and not it.problems:
            continue
        lines += ["", f"## {it.fault}", ""]
        lines += [note if note.startswith(("|", "\n")) else f"- {note}" for note in it.notes]
        if it.problems:
            lines += ["", "**What must not be:**", ""]
            lines += [f"- {problem} ({number} times)" for problem, number in it.problems.most_common()]
    return "\n".join(lines) + "\n"


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores, {memory:.0f} GiB of memory, {platform.system()} {platform.machine()}"


def _versions(postgres: str, others: Sequence[str]) -> str:
    parts = [f"Python {platform.python_version()}", f"Postgres {postgres}"]
    parts += [f"{name} {version(name)}" for name in ("asyncpg", "uvicorn")]
    return ", ".join([*parts, *others]) + "."
