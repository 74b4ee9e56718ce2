"""`make run`'s command: from an empty folder to a movement that was applied, and nothing left behind."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx2
import psutil
import pytest

from app.cli import dev_processes
from app.cli.dev_setup import OwnPostgres, client_secret, make_settings
from tests.support.demo import beginning, developing, wait_until_told
from tests.support.page import Person
from tests.support.service import environment, free_port, held_port

END_SECONDS = 60.0
LOOK_SECONDS = 60.0
"""In which the service has compared, and has looked for what a person has to act on"""


def left_behind(data: Path) -> list[str]:
    """Processes that still work on the folder `data`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(data) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(command)
    return found


def left_behind_in_the_end(data: Path) -> list[str]:
    """The same, once what is ending has ended: Postgres takes its pid file away just before its process ends."""
    deadline = time.monotonic() + END_SECONDS
    while (found := left_behind(data)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["data", "a+folder, with & spaces %20 and ü " + "x" * 90], ids=["plain", "odd and long"])
def test_it_sends_a_movement_like_the_documented_one_and_goes_on_from_there_the_next_time(tmp_path: Path, folder: str) -> None:
    data, port = tmp_path / folder, free_port()
    with developing(data, port) as (process, log):
        first = log.read_text()
        assert "13.69  12.44" in first
        assert "Service   registered at the sandbox" in first
        assert "the count of 22 that was made ten minutes before that sale (20.5 ->\n20.0)" in first
        kept = (data / "dev.env").read_text()
        assert not [name for name in ("MIPOS_ACCESS_TOKEN", "POS_ID", "SYNC_EVERY", "0.0.0.0") if name in kept]
        assert ["0o600"] * 4 == [
            oct((data / name).stat().st_mode & 0o777) for name in ("dev.env", "activate", "service.log", "sandbox.json")
        ]
        env_file = str(data / "dev.env")
        sent = subprocess.run(
            [sys.executable, "-m", "app", "--env-file", env_file, "send", "--remove", "0.5", "--current-stock", "11.94"],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert sent.stdout.startswith("204: received. The movement is applied, now or before.")
        process.send_signal(signal.SIGINT)
        assert 0 == process.wait(30)
    assert [] == left_behind_in_the_end(data)
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"http://127.0.0.1:{port}/livez")

    with developing(data, port) as (process, log):
        second = log.read_text()
        assert "11.94  10.69" in second
        assert "sent again with the same key, it changes nothing" in second
        process.send_signal(signal.SIGHUP if folder == "data" else signal.SIGTERM)
        assert 0 == process.wait(30)
    assert [] == left_behind_in_the_end(data)


@pytest.mark.slow
async def test_its_link_leads_once_to_a_page_that_shows_what_waits_for_a_person(tmp_path: Path) -> None:
    with developing(tmp_path / "data", free_port()) as (_, log):
        (link,) = re.findall(r"^  (http://\S+/ui/link/\S+)$", log.read_text(), re.MULTILINE)
        base, _, path = link.partition("/ui/")
        async with httpx2.AsyncClient(base_url=base, timeout=30, trust_env=False) as client:
            person = Person(client)
            # To look at it, as a chat does that previews it, does not spend it.
            for _ in range(2):
                await person.open(link)
                assert "Log in by this link" in person.text
            await person.send(f"/ui/{path}")
            assert (200, f"{base}/ui/") == (person.status, person.url)
            assert "dev (operator)" in person.text
            await person.open("/ui/deliveries")
            assert 'The POS has no item with external_id "tofu01".' in person.text
            await person.open("/ui/stores/1/items/tom001")
            # The sale stays sold, though the count was recorded after it.
            assert "Stock 20 kg" in person.text
            assert re.search(r"3 count, counted 22 -0\.5 20 .* 2 sale -2 20\.5 .* 1 opening, counted 22\.5 \+22\.5", person.text)
            await person.open("/ui/outbox")
            assert re.search(r"waits 2 item_abc123 \S+ -1 u2 10\.22 u2 .* status 503, without a word", person.text)
            await until_shown(person, "/ui/stock?differs=1", "1 saf001 Saffron")
            await person.open("/ui/stores/1/items/saf001")
            assert re.search(r"0\.04 kg 0\.03 kg .* \+0\.01 kg 0\.01 kg, a difference from the beginning", person.text)
            await until_shown(person, "/ui/", "Refused deliveries wait for a person (unknown_item)")
        async with httpx2.AsyncClient(base_url=base, timeout=30, trust_env=False) as client:
            stranger = Person(client)
            await stranger.open(link)
            await stranger.send(f"/ui/{path}")
            assert "dev (operator)" not in stranger.text
            await stranger.open("/ui/deliveries")
            assert f"{base}/ui/login" == stranger.url.partition("?")[0]


async def until_shown(person: Person, path: str, words: str) -> None:
    """Read what the service looks at now and then until it shows `words`."""
    deadline = time.monotonic() + LOOK_SECONDS
    await person.open(path)
    while words not in person.text:
        assert time.monotonic() < deadline, person.text
        await person.open(path)


@pytest.mark.slow
def test_a_second_one_on_the_same_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    with developing(data, port):
        second = subprocess.run(
            [sys.executable, "-m", "app", "dev", "--data", str(data)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert 200 == httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code

    assert 1 == second.returncode
    assert "It runs already" in second.stderr


@pytest.mark.slow
def test_a_port_in_use_makes_it_take_another(tmp_path: Path) -> None:
    with (
        held_port() as port,
        developing(tmp_path / "one", port) as (_, one),
        developing(tmp_path / "two", port) as (_, two),
    ):
        assert f"http://127.0.0.1:{port}/webhooks" in one.read_text()
        assert f"http://127.0.0.1:{port}/webhooks" not in two.read_text()
        assert "13.69  12.44" in two.read_text()


@pytest.mark.slow
def test_of_two_that_start_at_once_on_the_same_ports_each_gets_its_own(tmp_path: Path) -> None:
    """Both have seen that the ports are free, and only one of them gets each."""
    with (
        held_port() as port,
        held_port() as sandbox_port,
        beginning(tmp_path / "one", port, sandbox_port) as one,
        beginning(tmp_path / "two", port, sandbox_port) as two,
    ):
        for process, log in (one, two):
            wait_until_told(process, log)
        told = [log.read_text() for _, log in (one, two)]

    assert ["13.69  12.44"] * 2 == [part for text in told for part in re.findall(r"13\.69  12\.44", text)]
    for address in (f"http://127.0.0.1:{sandbox_port}\n", f"http://127.0.0.1:{port}/webhooks/stock\n"):
        assert 1 == sum(address in text for text in told), address


class Foreign(BaseHTTPRequestHandler):
    """Says to everything what a sandbox and a registered service say, and notes what it is told."""

    told: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.told.append(str(self.headers))
        url = f"http://127.0.0.1:{self.server.server_port}/webhooks/stock"  # type: ignore[attr-defined]
        said = json.dumps({"run_id": "1234567890abcdef", "registration": {"state": "registered", "url": url}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Quietly."""


@pytest.fixture
def foreign() -> Iterator[int]:
    """The port on which it listens."""
    Foreign.told.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_foreign_sandbox_that_took_the_port_is_not_believed(
    tmp_path: Path, foreign: int, processes: list[subprocess.Popen[bytes]]
) -> None:
    with pytest.raises(dev_processes.PortTaken):
        dev_processes.run_sandbox(tmp_path, foreign, processes)

    assert Foreign.told
    assert client_secret(tmp_path) not in "".join(Foreign.told)


@pytest.mark.slow
def test_a_foreign_service_that_took_the_port_is_not_believed_and_gets_no_key(
    tmp_path: Path, foreign: int, processes: list[subprocess.Popen[bytes]]
) -> None:
    settings = make_settings(
        OwnPostgres("postgresql://nobody@127.0.0.1:1/none", tmp_path), tmp_path, port=foreign, sandbox_port=1
    )
    with pytest.raises(dev_processes.PortTaken):
        dev_processes.run_service(settings, tmp_path, processes)

    assert [] == Foreign.told


@pytest.mark.slow
def test_after_a_kill_only_postgres_is_left_and_the_next_start_goes_on_or_stops_it(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    for _ in range(2):
        with developing(data, port) as (process, log):
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
            # The service and the sandbox end by themselves.
            _, alive = psutil.wait_procs(children, timeout=20)
            assert [] == [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
        assert left_behind(data)
    assert "12.44  11.19" in log.read_text()

    subprocess.run([sys.executable, "-m", "app", "dev", "--data", str(data), "--stop"], env=environment(), check=True)

    assert [] == left_behind_in_the_end(data)
