"""TLS to Postgres: what is checked, what is offered, and each refusal as a sentence with what to do."""

import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from app.database_address import read_address
from app.storage.engine import Database
from tests.support.certificates import LOCAL, Authority
from tests.support.debian_postgres import Server, binaries
from tests.support.service import run_command, serving

PROGRAMS = binaries()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAMS is None, reason="Debian's Postgres is not installed, or this is not root"),
]
ENCRYPTED = "SELECT version, client_dn FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tests'"
ACCESS = """
local all all trust
hostssl all with_certificate all cert
hostssl all all all trust
"""
"""Of who connects over TCP, nobody without TLS, and one role by its certificate alone."""


@dataclass(frozen=True)
class Encrypted:
    """A server that takes connections over TLS only, and the CA that it and its clients have."""

    server: Server
    authority: Authority
    folder: Path

    def url(self, options: str, *, user: str = "postgres", host: str = "localhost") -> str:
        return f"postgresql://{user}@{host}:{self.server.port}/postgres?{options}"

    @property
    def checked(self) -> str:
        return f"sslmode=verify-full&sslrootcert={self.authority.file}"

    def present(self, name: str, *hosts: str, days: tuple[int, int] = (-1, 30)) -> None:
        """Let the server have this certificate from now on."""
        for file, kind in zip(self.authority.issue(name, *hosts, days=days), ("crt", "key"), strict=True):
            give(file, self.folder / f"present.{kind}")
        self.reload()

    def reload(self) -> None:
        """Let it read its files again, and wait until it has."""
        before = self.server.ask("SELECT pg_conf_load_time()")
        self.server.ask("SELECT pg_reload_conf()")
        # Of the postmaster, which each new connection inherits it from.
        deadline = time.monotonic() + 60
        while self.server.ask("SELECT pg_conf_load_time()") == before:
            assert time.monotonic() < deadline, "it does not read them"
            time.sleep(0.05)


def give(file: Path, place: Path) -> None:
    """A copy that the server may read, and nobody else."""
    user = pwd.getpwnam("postgres")
    new = place.with_suffix(".new")
    shutil.copy(file, new)
    new.chmod(0o600)
    os.chown(new, user.pw_uid, user.pw_gid)
    new.rename(place)


@pytest.fixture(scope="module")
def encrypted() -> Iterator[Encrypted]:
    assert PROGRAMS is not None
    folder = Path(tempfile.mkdtemp(prefix="pos-sync-encryption-"))
    folder.chmod(0o755)
    authority = Authority(folder)
    server = Server(PROGRAMS, folder / "server")
    it = Encrypted(server, authority, folder)
    try:
        server.make()
        for file, kind in zip(authority.issue("server", *LOCAL), ("crt", "key"), strict=True):
            give(file, folder / f"present.{kind}")
        access = folder / "access.conf"
        access.write_text(ACCESS)
        server.start(
            "fsync=off",
            "ssl=on",
            f"ssl_ca_file={authority.file}",
            f"ssl_cert_file={folder / 'present.crt'}",
            f"ssl_key_file={folder / 'present.key'}",
            f"hba_file={access}",
        )
        server.ask("CREATE ROLE with_certificate LOGIN SUPERUSER")
        migrated = run_command("migrate", DATABASE_URL=it.url(it.checked))
        assert 0 == migrated.returncode, migrated.stderr
        yield it
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def encryption_of(url: str) -> tuple[str, str | None]:
    """The version of TLS, and whose certificate the client has shown, of a connection as the service makes it."""
    connection = await Database(read_address(url), application_name="tests").connect()
    try:
        row = await connection.fetchrow(ENCRYPTED)
        assert row is not None
        return str(row["version"]), row["client_dn"]
    finally:
        connection.terminate()


def words_of(url: str) -> str:
    """What a command says that cannot connect."""
    ended = run_command("stock", DATABASE_URL=url)
    assert 1 == ended.returncode, ended.stdout
    assert "Traceback" not in ended.stderr
    return ended.stderr


async def test_engine_command_and_service_connect_over_checked_tls(encrypted: Encrypted) -> None:
    url = encrypted.url(encrypted.checked)

    shown = run_command("store", "list", DATABASE_URL=url)
    with serving(url) as service:
        ready = httpx2.get(f"{service.url}/readyz")
        log = service.log

    assert ("TLSv1.3", None) == await encryption_of(url)
    assert (0, 200) == (shown.returncode, ready.status_code), shown.stderr
    assert "not encrypted" not in log


@pytest.mark.parametrize("options", ["sslmode=require", "sslmode=prefer", ""])
async def test_without_a_check_it_is_encrypted_all_the_same(encrypted: Encrypted, options: str) -> None:
    assert ("TLSv1.3", None) == await encryption_of(encrypted.url(options, host="127.0.0.1"))


async def test_a_client_certificate_takes_the_place_of_a_password(encrypted: Encrypted) -> None:
    certificate, key = encrypted.authority.issue("client", subject="with_certificate")
    shown = f"{encrypted.checked}&sslcert={certificate}&sslkey={key}"

    version, name = await encryption_of(encrypted.url(shown, user="with_certificate"))
    listed = run_command("store", "list", DATABASE_URL=encrypted.url(shown, user="with_certificate"))
    without = words_of(encrypted.url(encrypted.checked, user="with_certificate"))

    assert ("TLSv1.3", "/CN=with_certificate") == (version, name)
    assert 0 == listed.returncode, listed.stderr
    assert "requires a valid client certificate" in without


def test_a_client_certificate_of_another_ca_is_said(encrypted: Encrypted) -> None:
    certificate, key = Authority(encrypted.folder, name="other-ca").issue("stranger", subject="with_certificate")
    shown = f"{encrypted.checked}&sslcert={certificate}&sslkey={key}"

    assert "does not take the certificate" in words_of(encrypted.url(shown, user="with_certificate"))


@pytest.mark.parametrize("trusted", ["system", "another CA"])
def test_a_private_ca_that_is_not_known_is_named_with_the_option_that_names_it(encrypted: Encrypted, trusted: str) -> None:
    file = "system" if trusted == "system" else Authority(encrypted.folder, name="another-ca").file
    url = encrypted.url(f"sslmode=verify-full&sslrootcert={file}")
    said = "was issued by a CA that this machine does not know: name the file of that CA in sslrootcert"

    assert f"(localhost:{encrypted.server.port}: the server's certificate {said})" in words_of(url)
    with serving(url, until="alive") as service:
        assert said in service.log


def test_of_several_hosts_each_is_named_with_its_reason(encrypted: Encrypted) -> None:
    url = encrypted.url("sslmode=verify-full&sslrootcert=system", host="localhost:1,localhost")

    words = words_of(url)
    assert "by a CA that this machine does not know" in words
    assert "localhost:1 (127.0.0.1): connection refused" in words


@pytest.mark.parametrize(
    ("hosts", "days", "said"),
    [
        (("db.example",), (-1, 30), "is for another name: use a name that it is for"),
        (LOCAL, (-30, -1), "has expired: it has to be renewed"),
        (LOCAL, (1, 30), "is not valid yet: look at the clock of this machine"),
    ],
    ids=["another name", "expired", "not yet valid"],
)
def test_another_name_and_another_time_are_each_a_sentence(
    encrypted: Encrypted, hosts: tuple[str, ...], days: tuple[int, int], said: str
) -> None:
    encrypted.present("wrong", *hosts, days=days)
    try:
        assert f"the server's certificate {said}" in words_of(encrypted.url(encrypted.checked))
    finally:
        encrypted.present("right", *LOCAL)
