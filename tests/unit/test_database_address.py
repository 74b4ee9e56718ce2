"""Where Postgres is: every form that libpq takes, and what can never work, in one sentence."""

import ssl
from pathlib import Path

import pytest

from app.database_address import Address, read_address
from app.database_host import Host


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


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("postgresql://u:p@localhost/pos?host=/run/pg&port=6000", ("/run/pg/.s.PGSQL.6000", "u", "p", "pos")),
        ("postgresql://u:p@h:1/pos?port=6000", ("h:6000", "u", "p", "pos")),
        ("postgresql://u:p@h:1/pos?host=other", ("other:1", "u", "p", "pos")),
        ("postgresql://u:p@h/pos?user=a&password=b&dbname=c&", ("h:5432", "a", "b", "c")),
    ],
)
def test_the_query_goes_before_the_places_of_the_url(given: str, found: tuple[str, ...]) -> None:
    address = read(given, PGHOST="x", PGUSER="x", PGPASSWORD="x", PGDATABASE="x")

    assert found == (str(address.hosts[0]), address.user, address.password, address.database)


def test_ssl_true_is_require_and_a_version_of_tls_may_be_named() -> None:
    assert "require" == read("postgresql://h/pos?ssl=true").sslmode
    context = read("postgresql://h/pos?sslmode=require", PGSSLMINPROTOCOLVERSION="TLSv1.3").tls(Host("h"))

    assert isinstance(context, ssl.SSLContext)
    assert (ssl.TLSVersion.TLSv1_3, ssl.CERT_NONE) == (context.minimum_version, context.verify_mode)


def test_a_key_that_is_encrypted_wants_its_password_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    certificates = pytest.importorskip("tests.support.certificates", reason="the extra 'signing' is not installed")
    certificate, key = certificates.Authority(tmp_path).issue("client", password="S3cret")
    url = f"postgresql://h/pos?sslmode=require&sslcert={certificate}&sslkey={key}"

    for password, said in ((None, "is encrypted: set its password as PGSSLPASSWORD"), ("wrong", "no key that fits")):
        with pytest.raises(ValueError, match=said):
            read(url, **({"PGSSLPASSWORD": password} if password else {}))
    assert isinstance(read(url, PGSSLPASSWORD="S3cret").tls(Host("h")), ssl.SSLContext)


def test_a_certificate_on_the_revocation_list_is_refused(tmp_path: Path) -> None:
    certificates = pytest.importorskip("tests.support.certificates", reason="the extra 'signing' is not installed")
    authority = certificates.Authority(tmp_path)
    revoked, key = authority.issue("revoked", "localhost")
    good = authority.issue("good", "localhost")
    url = f"postgresql://localhost/pos?sslmode=verify-full&sslrootcert={authority.file}&sslcrl={authority.revoke(revoked)}"
    context = read(url).tls(Host("localhost"))

    assert isinstance(context, ssl.SSLContext)
    assert shake_hands(context, *good) is None
    assert "revoked" in str(shake_hands(context, revoked, key))


def shake_hands(client_context: ssl.SSLContext, certificate: Path, key: Path) -> ssl.SSLError | None:
    """Why the client refuses a server with this certificate; None where it does not."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for one in (client, server) * 4:
        try:
            one.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            return error
    return None


def test_a_variable_that_only_the_driver_reads_is_refused_where_it_is_misspelt() -> None:
    with pytest.raises(ValueError, match="PGSSLNEGOTIATION that is unknown; known are postgres, direct"):
        read("postgresql://h/pos", PGSSLNEGOTIATION="nonsense")


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
        ("postgresql://pos:S3cret/Part@db/pos", "such as / and \\?"),
        ("postgresql://pos:pa:ss/S3cret@db/pos", "such as / and \\?"),
        ("postgresql://pos:1234/S3cret@db/pos", "such as / and \\?"),
        ("postgresql://pos:p?S3cret=1@db/pos", "such as / and \\?"),
        ("postgresql://pos:p@ss/S3cret@db/pos", "such as / and \\?"),
        ("postgresql:/pos:S3cret@db:5432/pos", "must look like"),
        ("postgresql:pos:S3cret@db:5432/pos", "must look like"),
        ("postgresql://pos:p@S3cret:x:y/pos", "no name has"),
        ("postgresql://u@db:5432:5433/pos", "no name has"),
        ("postgresql://u@db;x/pos", "no name has"),
        ("postgresql://u@a..b/pos", "empty or too long part"),
        (f"postgresql://u@{'a' * 64}/pos", "empty or too long part"),
        ("postgresql://db/pos?connect_timeout=abc", "must look like"),
        ("postgresql://db/pos?gssencmode=require", "must look like"),
        ("postgresql://db/pos?sslcrl=/no/such.crl", "/no/such.crl: No such file"),
        ("postgresql://db/pos?ssl_min_protocol_version=nonsense", "known are TLSv1.2, TLSv1.3"),
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
