"""The conformance kit: our service passes all of it over HTTP, another receiver passes what is required, and flaws are found."""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import anyio.to_thread
import pytest
from click.testing import CliRunner, Result

from app.cli.program import commands
from app.conformance import cases
from app.conformance.cases import Verdict
from app.conformance.stock import stock_by_url
from app.conformance.vectors import EXAMPLE_VALUES, fill, packaged, read_cases
from app.receiving.signature import Key, verify
from app.settings import Settings
from tests.support import vectors
from tests.support.receiver import Receiver, receiving
from tests.support.sender import PATH, SECRET
from tests.support.service import run_command, serving
from tests.support.world import World

KEY = "the-key-of-the-till-in-this-check"
NAMES = {name: EXAMPLE_VALUES[name] for name in ("pos", "store", "item", "system")}


def results_of(receiver: Receiver, names: Sequence[str] = ()) -> dict[str, cases.Result]:
    chosen = [case for case in read_cases(packaged()) if not names or case.name.startswith(tuple(names))]
    results = cases.run(
        chosen,
        urlsplit(f"{receiver.url}/hook"),
        secret=SECRET.encode(),
        names=NAMES,
        read_stock=stock_by_url(f"{receiver.url}/stock/{{item}}", NAMES, field=None, authorization=None),
        is_exact=False,
    )
    return {result.case.name: result for result in results}


def test_a_receiver_of_another_make_passes_all_that_is_required() -> None:
    with receiving() as receiver:
        results = results_of(receiver)

    assert [] == [result for result in results.values() if result.verdict is Verdict.FAILED]
    # It reads no chunks, and takes the last of two equal keys.
    assert {"bytes-duplicate-key", "repeat-spelling", "slow-chunked"} >= {
        name for name, result in results.items() if result.verdict is Verdict.ADVISED
    }


@pytest.mark.parametrize(
    ("flaw", "found"),
    [
        ("accepts unsigned", ["signature-missing", "signature-of-another-body", "signature-cut"]),
        ("writes again", ["bytes-pretty", "bytes-escaped", "bytes-unescaped"]),
        ("forgets", ["repeat-bytes", "at-once-copies"]),
        ("knows by now", ["repeat-now"]),
        ("floats", ["decimal-tenths", "decimal-big"]),
        ("no message", ["signature-missing", "field-missing-quantity"]),
        ("body in 204", ["applies"]),
        ("fails on odd input", ["bytes-not-utf-8", "bytes-empty", "field-missing-quantity"]),
    ],
)
def test_a_receiver_with_a_flaw_fails_the_case_that_is_about_it(flaw: str, found: list[str]) -> None:
    with receiving(flaw) as receiver:
        results = results_of(receiver, found)

    passed = [name for name in found if results[name].verdict is not Verdict.FAILED]
    assert [] == passed


def test_the_vectors_are_as_they_are_generated_and_their_examples_verify() -> None:
    text = packaged()

    assert vectors.text() == text == vectors.PAGE.read_text(encoding="ascii"), "run: python -m tests.support.vectors"
    document = json.loads(text)
    requests = [request for case in document["cases"] for request in case["requests"] if "example" in request]
    for given, request in zip(
        requests, [r for c in read_cases(text) for r in c.requests if not r.stop and not r.padding], strict=True
    ):
        body = request.bytes_with(document["variables"])
        assert Key.CURRENT is verify(body, given["example"]["signature"].encode(), [(Key.CURRENT, document["secret"].encode())])
    names = [case["name"] for case in document["cases"]]
    assert len(names) == len(set(names))


def test_variables_are_filled_in_as_json() -> None:
    values = {**EXAMPLE_VALUES, "item": 'a "/\u00e9', "store": "01"}

    assert rb'{"i":"a \"\/\u00e9","s":"01","t":"01"}' == fill('{"i":"${item}","s":${store},"t":"${store_text}"}', values)
    assert b"17" == fill("${store}", {**values, "store": "17"})


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command, with nothing in its environment but the secrets."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("POS_API_KEY", KEY)
    return lambda *arguments, **more: CliRunner().invoke(commands, ["conformance", *arguments], prog_name="pos-sync", **more)


@pytest.mark.slow
async def test_our_service_passes_every_case_with_the_answers_that_the_vectors_name(
    world: World, invoke: Callable[..., Result]
) -> None:
    with serving(world.service_url, pos_api_key=KEY, response_deadline=1) as service:
        arguments = [f"{service.url}{PATH}", "--pos-api", service.url, "--exact", "--json"]
        done = await anyio.to_thread.run_sync(lambda: invoke(*arguments))

    results = json.loads(done.output)
    assert [] == [result for result in results if result["verdict"] != "passed"]
    assert len(read_cases(packaged())) == len(results)
    assert all(result["effect_checked"] for result in results)
    assert {} == await world.broken_invariants()
    assert Decimal("13.69") == await world.level()


def test_a_receiver_that_is_not_there_or_does_not_know_the_item_ends_it_in_words(invoke: Callable[..., Result]) -> None:
    away = invoke("http://127.0.0.1:1/x")
    with receiving() as receiver:
        unknown = invoke(receiver.url, "--item", "other", "--stock-command", "[ $ITEM = other ] && echo 1")
        unread = invoke(receiver.url, "--stock-url", f"{receiver.url}/", "--stock-field", "a")
        failed = invoke(receiver.url, "--stock-command", "exit 1")
        only_answers = invoke(receiver.url, "--case", "field-q")
    usage = [invoke(), invoke("ftp://x"), invoke("http://127.0.0.1:1/x", "--case", "none")]

    assert (1, 1, 1, 1, 0) == tuple(one.exit_code for one in (away, unknown, unread, failed, only_answers))
    assert "the connection ended without an answer (connection refused)" in away.output
    assert "the stock changed by 0 instead of 1.25" in unknown.output
    assert "not even a plain movement is applied" in unknown.output
    assert "The answer has no field a" in unread.output
    assert "Only the answers were looked at" in only_answers.output
    assert [2, 2, 2] == [one.exit_code for one in usage]
    assert packaged() == invoke("--vectors").output


def test_the_secret_comes_from_a_variable_a_file_or_standard_input(
    tmp_path: Path, invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    with receiving() as receiver:
        asked = (receiver.url, "--case", "applies")
        by_variable = invoke(*asked)
        monkeypatch.setenv("MIPOS_CLIENT_SECRET", "another secret than the receiver has")
        by_another, by_file = invoke(*asked), invoke(*asked, "--secret-file", str(file))
        by_input = invoke(*asked, "--secret-file", "-", input=f"{SECRET}\n")
        monkeypatch.delenv("MIPOS_CLIENT_SECRET")
        none = invoke(*asked)

    assert [0, 1, 0, 0, 2] == [one.exit_code for one in (by_variable, by_another, by_file, by_input, none)]
    assert "Set MIPOS_CLIENT_SECRET, or use --secret-file" in none.output
    help_text = invoke("--help").output
    assert help_text.index("MIPOS_CLIENT_SECRET") < help_text.index("--secret-file") < help_text.index("--secret TEXT")


def test_a_secret_on_the_command_line_is_seen_by_others_and_one_in_a_file_is_not(
    tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    """What `ps` shows every user of the machine: /proc/PID/cmdline is readable for all."""
    file, seen = tmp_path / "secret", tmp_path / "seen"
    file.write_text(SECRET + "\n")
    with receiving() as receiver:
        # A command that it starts, as another process may do.
        look = f"ls -l /proc/$PPID/cmdline > {seen}; cat /proc/$PPID/cmdline >> {seen}; echo 0"
        given = run_command("conformance", receiver.url, "--secret", SECRET, "--stock-command", look)
        by_file = invoke(receiver.url, "--secret-file", str(file), "--case", "applies")

    assert seen.read_text().startswith("-r--r--r--")
    assert SECRET in seen.read_text()
    assert "every user of this machine sees it" in given.stderr
    assert 0 == by_file.exit_code
    assert "sees it" not in by_file.output
    assert 2 == invoke(receiver.url, "--secret-file", str(file), "--secret", SECRET).exit_code
