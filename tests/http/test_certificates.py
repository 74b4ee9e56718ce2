"""Outward HTTPS calls: each way in which a certificate is refused is a sentence of its own, with what to do."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from app.doctor import examine
from app.mipos.answers import Transient
from app.mipos.client import MiposClient
from app.operations import alert_message
from app.operations.alert_message import AlertTarget
from app.operations.alerts import post
from app.operator.ping import send_ping
from tests.conftest import settings_for
from tests.support.certificates import LOCAL, Authority
from tests.support.mipos import CREDENTIALS
from tests.support.world import World

UNKNOWN_CA = (
    "the server's certificate was issued by a CA that this machine does not know: "
    "name the file of that CA in the environment variable SSL_CERT_FILE"
)
OTHER_NAME = "the server's certificate is for another name: use a name that it is for"
EXPIRED = "the server's certificate has expired: it has to be renewed"
NOT_YET = "the server's certificate is not valid yet: look at the clock of this machine"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return Authority(tmp_path)


@asynccontextmanager
async def answering(context: ssl.SSLContext | None) -> AsyncIterator[str]:
    """A server that answers every request with a 500; its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


async def words_of(url: str) -> str:
    """What a call to mipOS at `url` comes to."""
    async with MiposClient(url, call_seconds=30) as client:
        answer = await client.fetch_token(CREDENTIALS)
    assert isinstance(answer, Transient)
    return answer.words


async def test_a_private_ca_is_named_and_trusted_where_ssl_cert_file_names_it(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(authority.server("mipos", *LOCAL)) as url:
        unknown = await words_of(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        known = await words_of(url)

    assert f"mipOS could not be reached: {UNKNOWN_CA}" == unknown
    assert known.endswith("(status 500)")


@pytest.mark.parametrize(
    ("hosts", "days", "said"),
    [
        (("mipos.example",), (-1, 30), OTHER_NAME),
        (("127.0.0.2",), (-1, 30), OTHER_NAME),
        (LOCAL, (-30, -1), EXPIRED),
        (LOCAL, (1, 30), NOT_YET),
    ],
    ids=["another name", "another address", "expired", "not yet valid"],
)
async def test_another_name_and_another_time_are_each_a_sentence(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, hosts: tuple[str, ...], days: tuple[int, int], said: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with answering(authority.server("mipos", *hosts, days=days)) as url:
        assert f"mipOS could not be reached: {said}" == await words_of(url)


async def test_a_server_without_tls_is_said() -> None:
    async with answering(None) as url:
        assert (await words_of(url)).startswith("mipOS could not be reached: TLS failed (")


async def test_the_ping_the_alerts_and_the_doctor_name_a_private_ca_too(world: World, authority: Authority) -> None:
    async with answering(authority.server("all", *LOCAL)) as url:
        settings = settings_for(world, public_url=url, mipos_base_url=url)
        target = AlertTarget(url, b"k" * 32, "pos")
        ping = await send_ping(settings, world.engine)
        async with httpx2.AsyncClient() as client:
            alert = await post(client, target, alert_message.test_message(target, now=datetime.now(UTC)))
        checks = {check.name: check.reason async for check in examine(settings, world.engine, workers=1)}

    assert f"cannot be reached ({UNKNOWN_CA})" in ping.words
    assert f"cannot be reached ({UNKNOWN_CA})" == alert
    for name in ("mipOS", "public URL"):
        assert f"{url}" in checks[name]
        assert UNKNOWN_CA in checks[name]
