"""The start script of Compose's database, with a real server."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.debian_postgres import Server, binaries
from tests.support.sender import SECRET
from tests.support.service import run_command

SCRIPT = Path(__file__).parents[2] / "deploy" / "postgres" / "10-roles.sh"
PROGRAMS = binaries()
ODD = """it's "odd" \\ $1 %L"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAMS is None, reason="needs Debian's postgresql, and root to run it as another user"),
]


@pytest.fixture
def server() -> Iterator[Server]:
    """One that asks the two roles for their passwords."""
    assert PROGRAMS is not None
    folder = Path(tempfile.mkdtemp(prefix="pos-sync-roles-"))
    folder.chmod(0o755)
    made = Server(PROGRAMS, folder / "data")
    made.make()
    rules = folder / "data" / "pg_hba.conf"
    rules.write_text(f"host all pos_owner,pos_sync 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    made.start("fsync=off")
    yield made
    made.stop()
    shutil.rmtree(folder)


def run_script(server: Server, *, owner: str, service: str) -> None:
    assert PROGRAMS is not None
    names = {"POSTGRES_USER": "postgres", "OWNER_PASSWORD": owner, "SERVICE_PASSWORD": service}
    where = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    subprocess.run([SCRIPT], env={**names, **where}, check=True)


async def connect(server: Server, role: str, password: str) -> asyncpg.Connection:
    return await asyncpg.connect(host="127.0.0.1", port=server.port, user=role, password=password, database="pos")


async def test_the_owner_is_no_superuser_and_a_second_run_changes_nothing(server: Server) -> None:
    run_script(server, owner=ODD, service="service")
    owner = await connect(server, "pos_owner", ODD)
    await owner.execute("CREATE TABLE kept (id integer)")

    run_script(server, owner="another", service="another")

    again = await connect(server, "pos_owner", ODD)
    rights = "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = 'pos_owner'"
    assert await again.fetchval(rights) is False
    assert "pos_owner" == await again.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'pos'")
    assert 0 == await again.fetchval("SELECT count(*) FROM kept")
    await (await connect(server, "pos_sync", "service")).close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(server, "pos_sync", "another")
    await again.close()
    await owner.close()


async def test_a_wrong_password_is_said_in_one_sentence(server: Server) -> None:
    run_script(server, owner="owner", service="service")
    values = {
        "DATABASE_URL": f"postgresql://pos_sync:wrong@127.0.0.1:{server.port}/pos",
        "MIPOS_CLIENT_SECRET": SECRET,
        "PORT": "0",
    }
    for arguments, status in ((("serve",), 1), (("serve", "--workers", "2"), 1), (("status",), 4), (("stock",), 1)):
        ended = await asyncio.to_thread(run_command, *arguments, **values)
        assert status == ended.returncode, ended.stdout + ended.stderr
        assert "The password of the database role is wrong. Set the right one in DATABASE_URL" in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stdout + ended.stderr
