"""A Postgres that does not let the service in: it is not away, and who reads of it is told what to change.

The servers of the tests trust every role, so one that refuses is played here, as far as a client gets with it.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.server.run import SchemaNotAtHead, require_schema
from app.settings import load_settings
from tests.support.commands import Run, runner_for
from tests.support.sender import SECRET

REMEDY = "The password of the database role is wrong. Set the right one in DATABASE_URL"
SSL_REQUEST = 80877103


@asynccontextmanager
async def refusing(code: str, message: str) -> AsyncIterator[str]:
    """A server that answers every login with this error; its address."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length, kind = struct.unpack("!II", await reader.readexactly(8))
            await reader.readexactly(length - 8)
            if kind != SSL_REQUEST:
                break
            writer.write(b"N")
        fields = b"".join(name + value.encode() + b"\0" for name, value in ((b"S", "FATAL"), (b"C", code), (b"M", message)))
        writer.write(b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        yield f"postgresql://pos_sync:wrong@127.0.0.1:{server.sockets[0].getsockname()[1]}/pos"


@pytest.fixture
def run_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    run = runner_for("", monkeypatch, tmp_path)
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)

    async def at(url: str, *arguments: str) -> object:
        monkeypatch.setenv("DATABASE_URL", url)
        return await run(*arguments)

    return at  # type: ignore[return-value]


async def test_a_wrong_password_is_named_by_each_command_and_ends_the_service(run_at: Run) -> None:
    async with refusing("28P01", 'password authentication failed for user "pos_sync"') as url:
        stock, status, doctor = [await run_at(url, *line.split()) for line in ("stock", "status", "doctor --json")]
        with pytest.raises(SchemaNotAtHead, match=REMEDY):
            await require_schema(load_settings())

    assert (1, 4, 4) == (stock.exit_code, status.exit_code, doctor.exit_code)
    assert REMEDY in stock.output
    assert REMEDY in status.output
    (check,) = [one for one in json.loads(doctor.stdout) if one["name"] == "database"]
    assert ("refuses this service (28P01)", True) == (check["reason"], REMEDY in check["remedy"])


async def test_a_role_that_there_is_not_yet_is_a_refusal_and_no_database_that_is_away(run_at: Run) -> None:
    async with refusing("28000", 'role "pos_sync" does not exist') as url:
        stock = await run_at(url, "stock")
        with capture_logs() as logged:
            await require_schema(load_settings())

    assert 'The database refused: role "pos_sync" does not exist' in stock.output
    (line,) = logged
    assert "database refuses this service at start, starting all the same" == line["event"]
    assert ("28000", 'role "pos_sync" does not exist') == (line["sqlstate"], line["reason"])
