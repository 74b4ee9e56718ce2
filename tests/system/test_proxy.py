"""The shipped nginx configuration with a real nginx before a real service."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import httpx2
import pytest

from tests.support.page import PASSWORD
from tests.support.sender import PATH, body_of, raw_request, signed
from tests.support.service import Connection, free_port, serving
from tests.support.world import World

SITE = Path(__file__).parents[2] / "deploy" / "nginx" / "pos-sync.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt-get install nginx-light)")


def site(*, port: int, upstream: str) -> str:
    """The shipped site with the two things changed that its head says to change."""
    shipped = SITE.read_text()
    assert 1 == shipped.count("server app:8080") == shipped.count("listen 8080;")
    return shipped.replace("server app:8080", f"server {upstream}").replace("listen 8080;", f"listen 127.0.0.1:{port};")


@contextmanager
def proxying(folder: Path, *, upstream: str) -> Iterator[int]:
    """A running nginx; its port."""
    assert NGINX is not None
    port = free_port()
    folder.chmod(0o755)
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1; events {{}}"
        f" http {{ access_log off; {temporary} {site(port=port, upstream=upstream)} }}"
    )
    command = [NGINX, "-c", str(configuration), "-e", "stderr"]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as nginx:
        try:
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert nginx.poll() is None
            yield port
        finally:
            nginx.terminate()


async def test_a_delivery_through_the_proxy(world: World, tmp_path: Path) -> None:
    with serving(world.service_url) as service, proxying(tmp_path, upstream=f"127.0.0.1:{service.port}") as port:
        url = f"http://127.0.0.1:{port}{PATH}"
        headers = {**signed(body_of()), "X-Forwarded-For": "203.0.113.7"}
        answer = httpx2.post(url, content=body_of(), headers=headers)
        forged = httpx2.post(url, content=body_of(), headers=signed(body_of() + b" "))
        refused = body_of(external_id="café / ☃")
        other = httpx2.post(url, content=refused, headers=signed(refused))
        large = httpx2.post(url, content=b"x" * 70000, headers=signed(b""))
        ready = httpx2.get(f"http://127.0.0.1:{port}/readyz")
        line = await service.delivery_line()

    assert (204, b"") == (answer.status_code, answer.content)
    assert (401, 409, 413, 200) == (forged.status_code, other.status_code, large.status_code, ready.status_code)
    assert "65536" in large.json()["message"]
    assert Decimal("12.44") == await world.level()
    assert "127.0.0.1" == line["client"]
    assert answer.headers["x-request-id"] == line["request_id"]


MAX_OF_AN_ADDRESS = 200
"""limit_conn of the shipped configuration"""


def everything_of(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    with connection:
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.slow
async def test_560_bodies_that_drip_from_one_address_keep_no_delivery_of_another_out(world: World, tmp_path: Path) -> None:
    head = b"POST /webhooks/stock HTTP/1.1\r\nHost: p\r\nContent-Length: 100000\r\n\r\n{"
    with serving(world.service_url) as service, proxying(tmp_path, upstream=f"127.0.0.1:{service.port}") as port:
        attackers: list[socket.socket] = []
        statuses: list[int] = []
        for _ in range(4):
            for _ in range(140):
                attackers.append(socket.create_connection(("127.0.0.1", port), timeout=10, source_address=("127.0.0.2", 0)))
                attackers[-1].sendall(head)
            body = body_of(date=f"round {len(attackers)}")
            answer = httpx2.post(f"http://127.0.0.1:{port}{PATH}", content=body, headers=signed(body))
            statuses.append(answer.status_code)
            # nginx has 512 connections here. Those that it refused are closed in a moment; the others are held.
            refused = [everything_of(attacker) for attacker in attackers[MAX_OF_AN_ADDRESS:]]
            attackers = attackers[:MAX_OF_AN_ADDRESS]
        for attacker in attackers:
            attacker.close()

    assert [204] * 4 == statuses
    assert all(answer.startswith(b"HTTP/1.1 429 ") and b'{"message": ' in answer for answer in refused)


@pytest.mark.slow
async def test_every_error_of_the_proxy_has_a_message(world: World, tmp_path: Path) -> None:
    with serving(world.service_url) as service, proxying(tmp_path, upstream=f"127.0.0.1:{service.port}") as port:
        cases = {
            b"GET /metrics HTTP/1.1\r\nHost: p\r\n\r\n": 404,
            b"GET /openapi.json HTTP/1.1\r\nHost: p\r\n\r\n": 404,
            b"GET / HTTP/1.1\r\nHost: p\r\n\r\n": 404,
            b"GET /_error/failed HTTP/1.1\r\nHost: p\r\n\r\n": 404,
            b"nonsense\r\n\r\n": 400,
            b"GET / HTTP/9.9\r\nHost: p\r\n\r\n": 400,
            b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: gzip\r\n\r\n": 400,
            b"GET / HTTP/1.1\r\n\r\n": 400,
            b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: p\r\n\r\n": 431,
            b"GET / HTTP/1.1\r\nHost: p\r\nX-Large: " + b"a" * 40000 + b"\r\n\r\n": 431,
            b"TRACE / HTTP/1.1\r\nHost: p\r\n\r\n": 405,
            raw_request(b"x" * 140000, {}): 413,
            b"GET /webhooks/stock HTTP/1.1\r\nHost: p\r\n\r\n": 405,
        }
        for request, expected in cases.items():
            connection = await Connection.open(port)
            await connection.send(request)
            status, headers, body = await connection.answer()
            connection.close()
            assert expected == status, request[:60]
            assert headers["content-type"].startswith("application/json"), request[:60]
            assert json.loads(body)["message"], request[:60]


async def test_a_service_that_is_away_is_503_and_not_502(tmp_path: Path) -> None:
    with proxying(tmp_path, upstream=f"127.0.0.1:{free_port()}") as port:
        answer = httpx2.post(f"http://127.0.0.1:{port}{PATH}", content=body_of(), headers=signed(body_of()))

    assert 503 == answer.status_code
    assert "5" == answer.headers["retry-after"]
    assert "applied only once" in answer.json()["message"]


NAMED_BY_A_PROXY = {"operator_user_header": "X-Forwarded-User", "operator_users": "mallory", "forwarded_allow_ips": "127.0.0.1"}
"""The service believes who the proxy says it is."""


@pytest.mark.slow
async def test_the_page_is_let_out_only_where_its_file_lies(world: World, tmp_path: Path) -> None:
    with serving(world.service_url, operator_password=PASSWORD, **NAMED_BY_A_PROXY) as service:
        # The service would believe it, if it came through.
        named = {"X-Forwarded-User": "mallory"}
        assert "mallory (operator" in httpx2.get(f"{service.url}/ui/", headers=named).text
        for is_out in (False, True):
            folder = tmp_path / str(is_out)
            folder.mkdir()
            if is_out:
                shutil.copy(SITE.with_name("pos-sync-page.conf"), folder)
            with proxying(folder, upstream=f"127.0.0.1:{service.port}") as port:
                own = f"http://127.0.0.1:{port}"
                async with httpx2.AsyncClient(base_url=own, follow_redirects=True) as client:
                    for path in ("/ui/", "/ui/login", "/ui/stock"):
                        shown = await client.get(path, headers=named)
                        assert (200 if is_out else 404) == shown.status_code
                        assert not is_out or "/ui/login" == shown.url.path
                        assert "mallory" not in shown.text
                    if is_out:
                        data = {"name": "Ana", "password": PASSWORD, "asked_for": "/ui/"}
                        answer = await client.post("/ui/login", data=data, headers={"Origin": own, **named})
                        assert "Ana (operator)" in answer.text
                        assert "mallory" not in answer.text
