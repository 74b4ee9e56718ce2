"""Runs the cases one after the other, and judges each by what can be seen from outside: the answers, and the stock."""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from urllib.parse import SplitResult

from app.conformance.client import Answer, send
from app.conformance.stock import ReadStock
from app.conformance.vectors import Case, Expected, Request
from app.stock.quantity import to_plain
from app.stock.text import DATE_FORMAT

MAX_AT_ONCE = 16
MAX_TRIES = 5
"""Where a receiver says with 503 that the sender shall come again"""
TRY_AGAIN_SECONDS = 0.5
_TRY_AGAIN = 503
_ACCEPTED = 204
_REFUSED = range(400, 500)
_SHOWN = 100


class Verdict(StrEnum):
    """What came of a case."""

    PASSED = "passed"
    ADVISED = "advised"
    """It failed, and only were it required, the receiver would not conform."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """One case, and what was wrong."""

    case: Case
    verdict: Verdict
    problems: tuple[str, ...]
    has_effect_checked: bool


def run(  # noqa: PLR0913 - what is sent where, who sends it, and how it is judged
    cases: Sequence[Case],
    address: SplitResult,
    *,
    secret: bytes,
    names: Mapping[str, str],
    read_stock: ReadStock | None,
    is_exact: bool,
) -> Iterator[Result]:
    """Each case with a date and stocks of its own, so that a second run is another one. `names`: pos, store, item, system.

    With `is_exact` a refusal has to have the status with which this service answers.

    Raises:
        StockNotRead: the stock cannot be read.
    """
    # In the past, since some receivers refuse the future.
    begin = datetime.now(UTC) - timedelta(seconds=len(cases))
    tag = f"{secrets.randbelow(900_000) + 100_000}"
    for number, case in enumerate(cases):
        date = (begin + timedelta(seconds=number)).strftime(DATE_FORMAT)
        values = {**names, "date": date, "now": datetime.now(UTC).strftime(DATE_FORMAT), "tag": tag}
        before = None if read_stock is None else read_stock()
        problems = list(_problems(case, address, secret=secret, values=values, is_exact=is_exact))
        if read_stock is not None and before is not None:
            change = read_stock() - before
            if change != case.effect:
                problems.append(f"the stock changed by {to_plain(change)} instead of {to_plain(case.effect)}")
        verdict = Verdict.PASSED if not problems else Verdict.FAILED if case.is_required else Verdict.ADVISED
        yield Result(case, verdict, tuple(problems), has_effect_checked=read_stock is not None)


def _problems(case: Case, address: SplitResult, *, secret: bytes, values: Mapping[str, str], is_exact: bool) -> Iterator[str]:
    exchanges = [(request, request.bytes_with(values)) for request in case.requests]
    with ThreadPoolExecutor(MAX_AT_ONCE) as pool:
        groups = [exchanges] if case.at_once else [[one] for one in exchanges]
        for group in groups:
            waiting = [
                (request, pool.submit(_settled, address, request, body, secret))
                for request, body in group
                for _ in range(request.copies)
            ]
            for request, answers in waiting:
                for answer in answers.result():
                    fault = fault_of(request, answer, is_exact=is_exact)
                    if fault:
                        yield fault


def _settled(address: SplitResult, request: Request, body: bytes, secret: bytes) -> list[Answer]:
    """The answers to one request, sent as often as it says; again where the receiver asks for that."""
    answers = []
    for _ in range(request.times):
        for _ in range(MAX_TRIES):
            answer = send(address, request, body, secret=secret)
            if answer.status != _TRY_AGAIN:
                break
            time.sleep(TRY_AGAIN_SECONDS)
        answers.append(answer)
    return answers


def fault_of(request: Request, answer: Answer, *, is_exact: bool) -> str | None:
    """What is wrong with an answer; None where nothing is."""
    if request.expected is Expected.ANYTHING:
        return None
    if answer.status is None:
        return None if request.expected is Expected.REFUSED_OR_CLOSED and "within" not in answer.fault else answer.fault
    said = f"{answer.status}{f' ({_shown(answer)})' if answer.body else ''}"
    if request.expected is Expected.ACCEPTED:
        if answer.status != _ACCEPTED:
            return f"answered {said} instead of 204"
        return "204 has a body, and must not" if answer.has_body else None
    if answer.status not in _REFUSED:
        return f"answered {said} instead of a refusal (4xx)"
    if answer.message is None:
        return f"answered {said}, and its body is not JSON with a text in the field message"
    if is_exact and request.here is not None and answer.status != request.here:
        return f"answered {said} instead of {request.here}"
    return None


def _shown(answer: Answer) -> str:
    return (answer.message or answer.body[:_SHOWN].decode("utf-8", "replace"))[:_SHOWN]
