"""Where Postgres is: every form that libpq takes, and what can never work, in one sentence."""

import ssl
from pathlib import Path

import pytest

from app.database_address import Address, Host, read_address


def read(text: str, **environment: str) -> Address:
    return read_address(text, environment)


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ("postgres://u:p@db/pos", "db:5432"),
        ("postgresql+psycopg://u:p@db:5433/pos", "db:5433"),
        ("postgresql://u:p@h1:5432,h2:5433/pos", "h1:5432 h2:5433"),
        ("postgresql://u:p@h1,h2/pos?port=5433", "h1:5433 h2:5433"),
        ("postgresql://u:p@/pos?host=h1:5432&host=h2:5433", "h1:5432 h2:5433"),
        ("postgresql://u:p@/pos?host=h1,h2&port=5432,5433", "h1:5432 h2:5433"),
        ("postgresql://u:p@/pos?host=h1&host=h2&port=5432&port=5433", "h1:5432 h2:5433"),
        ("postgresql://u:p@[::1]:5433,[fe80::1]/pos", "[::1]:5433 [fe80::1]:5432"),
        ("postgresql://u@/pos?host=/run/postgres", "/run/postgres/.s.PGSQL.5432"),
        ("postgresql://u@%2Frun%2Fpostgres:5433/pos", "/run/postgres/.s.PGSQL.5433"),
        ("postgresql:///pos", "localhost:5432"),
    ],
)
def test_hosts_are_named_in_every_way_that_libpq_takes(given: str, hosts: str) -> None:
    assert hosts == " ".join(str(host) for host in read(given).hosts)


def test_what_the_url_does_not_name_comes_from_libpqs_variables() -> None:
    found = read("postgresql://", PGHOST="h1,h2", PGPORT="6000", PGUSER="u", PGPASSWORD="p", PGDATABASE="pos", PGOPTIONS="-c a=b")

    assert ((Host("h1", 6000), Host("h2", 6000)), "pos", "u", "p") == (found.hosts, found.database, found.user, found.password)
    assert "db" == read("postgresql://db/pos", PGHOST="other").hosts[0].name
    assert {"options": "-c a=b"} == found.driver_arguments()["server_settings"]


def test_special_characters_are_written_as_percent_codes_and_an_at_sign_may_stand() -> None:
    found = read("postgresql://a%40b:p%2Fq%23@r@db/pos%20x")

    assert ("a@b", "p/q#@r", "pos x") == (found.user, found.password, found.database)
    assert "p/q" not in repr(found)


@pytest.mark.parametrize(
    ("hosts", "options", "target"),
    [("h", "", "any"), ("h1,h2", "", "read-write"), ("h1,h2", "?target_session_attrs=primary", "primary")],
)
def test_of_several_hosts_the_one_that_writes_is_asked_for(hosts: str, options: str, target: str) -> None:
    assert target == read(f"postgresql://{hosts}/pos{options}").target


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("S3cretPart", "must look like"),
        ("postgresql://pos:S3cretPart/pos", "port is no number"),
        ("postgresql://pos:a@b:S3cretPart/pos", "port is no number"),
        ("postgresql://pos:S3cret/Part@db/pos", "port is no number"),
        ("postgresql://pos:x#y@db/pos", "%23"),
        ("postgresql://pos:S3cretPart@db", "names no database"),
        ("postgresql://pos:S3cretPart@db:99999/pos", "1 to 65535"),
        ("postgresql://pos:S3cretPart@db:0/pos", "1 to 65535"),
        ("postgresql://h1,h2,h3/pos?port=1,2", "3 hosts and 2 ports"),
        ("postgresql://[::1/pos", "must look like"),
        ("postgresql://db/pos?sslmode=banana", "unknown sslmode"),
        ("postgresql://db/pos?target_session_attrs=nonsense", "unknown target_session_attrs"),
        ("postgresql://db/pos?target_session_attrs=standby", "this service writes"),
        ("postgresql://db/pos?servise=x", "not known here: servise"),
        ("postgresql://db/pos?sslmode", "must look like"),
        ("postgresql://db/pos?sslmode=verify-full&sslrootcert=/no/such.crt", "/no/such.crt: No such file"),
        ("postgresql://db/pos?sslmode=verify-full&sslrootcert=/no/such.crt", "sslrootcert=system"),
        ("postgresql://db/pos?sslmode=verify-ca&sslrootcert=system", "needs sslmode=verify-full"),
        ("postgresql://db/pos?sslkey=/dev/null", "without an sslcert"),
        ("postgresql://db/pos?sslmode=verify-full&sslrootcert=/dev/null", "no certificates"),
        ("postgresql://db/pos?passfile=/no/such", "/no/such"),
    ],
)
def test_what_can_never_work_is_refused_in_a_sentence(given: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        read(given)

    assert "S3cret" not in str(refused.value)


def test_without_a_file_the_authorities_of_the_users_folder_are_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(ValueError, match=r"\.postgresql/root\.crt"):
        read("postgresql://db/pos?sslmode=verify-full")


def test_a_certificate_is_checked_for_the_name_in_the_address_and_not_for_its_ip() -> None:
    context = read("postgresql://db.example/pos?sslrootcert=system").tls(Host("db.example"))

    assert isinstance(context, ssl.SSLContext)
    assert (True, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)
    assert "db.example" == context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="10.0.0.1").server_hostname


@pytest.mark.parametrize(("mode", "used"), [("disable", False), ("allow", "allow"), ("prefer", "prefer"), ("require", "require")])
def test_what_checks_nothing_is_left_to_the_driver(mode: str, used: object) -> None:
    found = read(f"postgresql://db/pos?sslmode={mode}")

    assert (used, False) == (found.tls(Host("db")), found.tls(Host("/run/postgres")))


@pytest.mark.parametrize(
    ("name", "is_near"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("db", True),
        ("/run/postgresql", True),
        ("10.0.0.5", False),
        ("db.example.com", False),
    ],
)
def test_what_is_near_may_go_unencrypted(name: str, *, is_near: bool) -> None:
    assert is_near is Host(name).is_near


@pytest.mark.parametrize("options", ["", "?target_session_attrs=standby", "?target_session_attrs=any"])
def test_an_address_to_read_from_leads_to_a_standby(options: str) -> None:
    variables = {"PGTARGETSESSIONATTRS": "read-write", "PGUSER": "u"}
    found = read_address(f"postgresql://h1,h2/pos{options}", variables, of_standby=True)

    # The variable is meant for DATABASE_URL; all others hold for both.
    assert ("standby", "u", 2) == (found.target, found.user, len(found.hosts))


@pytest.mark.parametrize(("target", "said"), [("read-write", "asks for a primary"), ("nonsense", "unknown")])
def test_an_address_to_read_from_that_asks_for_a_primary_is_refused(target: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_address(f"postgresql://h1,h2/pos?target_session_attrs={target}", {}, of_standby=True)
