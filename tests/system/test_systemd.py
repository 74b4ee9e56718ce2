"""What systemd is told by a real service, and the shipped units."""

import asyncio
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx2
import pytest

from app.cli.program import commands
from app.settings import NAMES, Settings
from tests.support.service import serving
from tests.support.world import World

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
INSTALLED = "/opt/pos-sync/bin/pos-sync"
ANALYZE = shutil.which("systemd-analyze")
STOP_SECONDS = 11
"""What docs/deploying.md says that a stop takes beside DRAIN_DELAY and RESPONSE_DEADLINE"""
MAX_EXPOSURE = 20
"""Of 100; systemd calls what is below 20 "OK" at worst. A unit without any hardening has 96."""

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (Debian: apt-get install systemd)")


@contextmanager
def told(address: str) -> Iterator[socket.socket]:
    """What systemd would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(30)
        yield listener


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_abstract", [False, True], ids=["file", "abstract"])
async def test_it_tells_when_it_serves_and_when_it_stops(
    world: World, tmp_path: Path, workers: str, *, is_abstract: bool
) -> None:
    name = f"{tmp_path}/notify"
    with told(f"\0{name}" if is_abstract else name) as listener:
        variable = f"@{name}" if is_abstract else name
        with serving(world.service_url, "--workers", workers, until="listening", notify_socket=variable) as service:
            ready = await asyncio.to_thread(listener.recv, 100)
            alive = httpx2.get(f"{service.url}/livez", timeout=1).status_code
            service.signal()
            stopping = await asyncio.to_thread(listener.recv, 100)
            assert 0 == await asyncio.to_thread(service.wait)
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.recv(100)

    assert (b"READY=1", b"STOPPING=1") == (ready, stopping)
    assert 200 == alive


@pytest.mark.slow
async def test_it_tells_of_the_stop_when_it_begins_and_not_when_it_ends(world: World, tmp_path: Path) -> None:
    with (
        told(f"{tmp_path}/notify") as listener,
        serving(world.service_url, drain_delay=60, notify_socket=f"{tmp_path}/notify") as service,
    ):
        assert b"READY=1" == listener.recv(100)
        service.signal()
        assert b"STOPPING=1" == await asyncio.to_thread(listener.recv, 100)
        assert 200 == httpx2.get(f"{service.url}/livez").status_code
        await asyncio.sleep(1.1)  # a second signal within a second is the first one's echo
        service.signal()
        assert 0 == await asyncio.to_thread(service.wait)


@pytest.mark.slow
async def test_nobody_who_listens_is_no_reason_to_fail(world: World, tmp_path: Path) -> None:
    with serving(world.service_url, notify_socket=f"{tmp_path}/nothing") as service:
        service.signal()
        assert 0 == await asyncio.to_thread(service.wait)


def lines_of(unit: str) -> list[tuple[str, str]]:
    """The (key, value) lines of a unit."""
    return re.findall(r"^(\w+)=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", ["pos-sync.service", "pos-sync-migrate.service"])
class TestUnit:
    @needs_systemd
    def test_systemd_takes_it(self, unit: str, tmp_path: Path) -> None:
        program = tmp_path / "pos-sync"
        program.symlink_to(Path(sys.executable).parent / "pos-sync")
        copy = tmp_path / unit
        text = (UNITS / unit).read_text()
        assert 1 == text.count(INSTALLED)
        copy.write_text(text.replace(INSTALLED, str(program)))
        done = subprocess.run([str(ANALYZE), "verify", "--man=no", copy], capture_output=True, text=True, check=False)

        assert 0 == done.returncode, done.stderr
        # Other units of the machine may have faults of their own.
        assert unit not in done.stderr, done.stderr

    @needs_systemd
    def test_it_has_few_rights(self, unit: str) -> None:
        done = subprocess.run(
            [str(ANALYZE), "security", "--offline=true", f"--threshold={MAX_EXPOSURE}", "--no-pager", UNITS / unit],
            capture_output=True,
            text=True,
            check=False,
        )
        if "unrecognized option" in done.stderr:
            pytest.skip("this systemd-analyze cannot look at a file (systemd 250 or newer can)")

        assert 0 == done.returncode, done.stdout[-500:]

    def test_its_credentials_are_settings(self, unit: str) -> None:
        credentials = [value.split(":") for key, value in lines_of(unit) if key == "LoadCredential"]

        assert "database_url" in {name for name, _ in credentials}
        assert {name for name, _ in credentials} <= {name.lower() for name in NAMES}
        assert all(path.startswith("/etc/pos-sync/secrets/") for _, path in credentials)

    def test_its_command_exists(self, unit: str) -> None:
        program, name, *options = dict(lines_of(unit))["ExecStart"].split()
        command = commands.get_command(click.Context(commands), name)

        assert INSTALLED == program
        assert command is not None
        command.make_context(name, options)


def test_a_stop_has_the_time_that_it_needs() -> None:
    drain, deadline = (Settings.model_fields[name].default for name in ("drain_delay", "response_deadline"))

    assert int(dict(lines_of("pos-sync.service"))["TimeoutStopSec"].removesuffix("s")) > drain + deadline + STOP_SECONDS
