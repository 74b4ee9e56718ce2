import os
import sys
from pathlib import Path

import pytest

from app.env_file import CREDENTIALS_VARIABLE
from app.extras import MODULES
from app.settings import ENV_FILE_VARIABLE, Settings, SettingsRefused, load_settings
from tests.support.configuration import EXAMPLE, PAGE, example, table

GOOD = {"DATABASE_URL": "postgresql://u:hunter2@db/pos", "MIPOS_CLIENT_SECRET": "9468da7ccaed13055abcf183fb05c73e8cfc48c5"}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv(ENV_FILE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def put(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, **GOOD, PORT="9000", NEGATIVE_STOCK="refuse", LOG_LEVEL="debug", POS_ID="")

    settings = load_settings()

    assert 9000 == settings.port
    assert "refuse" == settings.negative_stock
    assert "DEBUG" == settings.log_level
    assert settings.pos_id is None


def test_one_message_names_every_fault_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    put(
        monkeypatch,
        DATABASE_URL="mysql://root:hunter2@db/pos",
        MIPOS_CLIENT_SECRET="tooshort",
        PORT="eighty",
        NEGATIVE_STOCK="perhaps",
        TIMEZONE="Mars/Olympus",
        RESPONSE_DEADLINE="0",
        LOG_LEVEL="loud",
    )

    with pytest.raises(SettingsRefused) as refused:
        load_settings()

    message = str(refused.value)
    for name in (
        "DATABASE_URL", "MIPOS_CLIENT_SECRET", "PORT", "NEGATIVE_STOCK", "TIMEZONE", "RESPONSE_DEADLINE", "LOG_LEVEL",
    ):  # fmt: skip
        assert f"  {name}: " in message
    assert "hunter2" not in message
    assert "tooshort" not in message


def test_what_is_required_is_named_when_nothing_is_set() -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings()

    assert "DATABASE_URL: is not set" in str(refused.value)
    assert "MIPOS_CLIENT_SECRET: is not set" in str(refused.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://pos:S3cretPart/pos", "must look like"),
        ("postgresql://pos:S3cret#Part@db/pos", "%23"),
        ("postgresql://pos:S3cretPart@db/pos?sslmode=verify-full&sslrootcert=/no/such.crt", "such.crt"),
    ],
)
def test_a_database_address_that_would_fail_later_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    put(monkeypatch, **{**GOOD, "DATABASE_URL": address})

    with pytest.raises(SettingsRefused, match=said) as refused:
        load_settings()

    assert "S3cret" not in str(refused.value)


def test_a_settings_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff\xfe")

    with pytest.raises(SettingsRefused, match="is not UTF-8"):
        load_settings()


def test_blanks_around_a_copied_value_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, **{**GOOD, "MIPOS_CLIENT_SECRET": " the secret of the account\n", "POS_ID": " 7 "})

    assert "the secret of the account" == load_settings().mipos_client_secret.get_secret_value()
    assert "7" == load_settings().pos_id


@pytest.mark.parametrize("addresses", ["*", "not-an-ip", "10.0.0.0/99", "10.0.0.1,"])
def test_only_addresses_may_be_believed(monkeypatch: pytest.MonkeyPatch, addresses: str) -> None:
    put(monkeypatch, **GOOD, FORWARDED_ALLOW_IPS=addresses)

    with pytest.raises(SettingsRefused, match="FORWARDED_ALLOW_IPS"):
        load_settings()


def test_secrets_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    read_url = "postgresql://u:readers-own@db2/pos"
    put(monkeypatch, **GOOD, MIPOS_CLIENT_SECRET_PREVIOUS="an older secret of the account", DATABASE_READ_URL=read_url)

    shown = repr(load_settings()) + str(load_settings())

    for secret in ("hunter2", "readers-own", GOOD["MIPOS_CLIENT_SECRET"], "an older secret"):
        assert secret not in shown


def test_a_secret_file_is_read_and_the_environment_goes_before_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mipos_client_secret").write_text("the secret from the file\n")
    (tmp_path / "pos_id").write_text("7\n")
    monkeypatch.setattr("app.settings.SECRETS_DIRECTORY", tmp_path)
    put(monkeypatch, DATABASE_URL=GOOD["DATABASE_URL"], POS_ID="8")

    settings = load_settings()

    assert "the secret from the file" == settings.mipos_client_secret.get_secret_value()
    assert "8" == settings.pos_id


def test_an_env_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.env").write_text("".join(f"{name}='{value}'\n" for name, value in GOOD.items()) + "PORT=81\n")
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(tmp_path / "other.env"))

    assert 81 == load_settings().port


def test_the_generated_pages_are_those_that_the_settings_make() -> None:
    assert example() == EXAMPLE.read_text()
    assert table() in PAGE.read_text()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MIPOS_CLIENT_SECRET", '"9468da7ccaed13055abcf183fb05c73e8cfc48c5"', "stands in quotes"),
        ("POS_ID", "'7'", "stands in quotes"),
        ("PUBLIC_URL", "https://pos.example.test/webhooks/stock", r"Write https://pos\.example\.test$"),
        ("PUBLIC_URL", "https://pos.example.test/webhooks/stock/", r"Write https://pos\.example\.test$"),
        ("MIPOS_BASE_URL", "http://integrations.mipos.shop", "unencrypted"),
        ("MIPOS_BASE_URL", "http://169.254.169.254", "unencrypted"),
        ("MIPOS_BASE_URL", "http://[fd00::2]:8430", "unencrypted"),
        ("MIPOS_BASE_URL", "http://[2001:db8::1]", "unencrypted"),
        ("MIPOS_BASE_URL", "http://3232235777", "must look like"),
        ("MIPOS_BASE_URL", "http://integrations%2emipos%2eshop", "must look like"),
        ("MIPOS_BASE_URL", "http://integrations\u3002mipos\u3002shop", "must look like"),
        ("MIPOS_BASE_URL", "https://integrations.mipos.shop/api/v1/token", r"Write https://integrations\.mipos\.shop$"),
        ("PUBLIC_URL", "https://pos.example.test/webhooks/stock/webhooks/stock", r"Write https://pos\.example\.test$"),
        ("PUBLIC_URL", "https://pos.example.test/WEBHOOKS/%73tock", r"Write https://pos\.example\.test$"),
        ("PUBLIC_URL", "https://pos.example.test/till/webhooks/stock", r"Write https://pos\.example\.test/till$"),
        ("PUBLIC_URL", "https://pos.example.test/webhooks//stock", "must look like"),
        ("PUBLIC_URL", "https://pos..example.test", "must look like"),
        ("PUBLIC_URL", "http://https://pos.example.test", "must look like"),
        ("PUBLIC_URL", "https://pos.example.test,https://z", "must look like"),
        ("PUBLIC_URL", "https://pos.example.test'", "must look like"),
        ("PUBLIC_URL", "https://*.example.test", "must look like"),
        ("PUBLIC_URL", "https://0.0.0.0:8080", "nobody can call"),
        ("PUBLIC_URL", "https://[::]", "nobody can call"),
        ("MIPOS_CLIENT_SECRET", '"9468da7ccaed13055abcf1', "a quote or a line break"),
        ("MIPOS_CLIENT_SECRET", "`9468da7ccaed13055abcf1`", "a quote or a line break"),
        ("MIPOS_CLIENT_SECRET", "9468da7cc\naed13055abcf1", "a quote or a line break"),
        ("POS_STORE_KEYS", "1=abcdefghijklmnop;2=qrstuvwxyzabcdef", "no semicolons"),
        ("OPERATOR_USER_HEADER", "Cookie", "every client sends"),
        ("OPERATOR_USER_HEADER", "X-Forwarded-For", "every client sends"),
        ("HOST", "http://0.0.0.0", "without a port"),
        ("HOST", "[::]", "without a port"),
        ("HOST", "0.0.0.0:8080", "without a port"),
    ],
)
def test_what_can_never_work_is_refused_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    put(monkeypatch, **{**GOOD, name: value})

    with pytest.raises(SettingsRefused, match=said) as refused:
        load_settings()

    assert "9468da" not in str(refused.value)


@pytest.mark.parametrize(
    ("extra", "name", "value"), [("signing", "SEAL_SIGNING_KEY", "A" * 43 + "="), ("tracing", "TRACE_SAMPLE", "0.1")]
)
def test_what_needs_a_library_that_is_not_installed_is_refused(
    monkeypatch: pytest.MonkeyPatch, extra: str, name: str, value: str
) -> None:
    pytest.importorskip(MODULES[extra], reason=f"the extra '{extra}' is not installed")
    put(monkeypatch, **GOOD, **{name: value})
    load_settings()
    monkeypatch.setitem(sys.modules, MODULES[extra], None)

    with pytest.raises(SettingsRefused, match=rf"{name}: needs the extra .*pip install 'mipos-pos-sync\[{extra}\]'"):
        load_settings()

    monkeypatch.delenv(name)
    load_settings()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8090",
        "http://[::1]:8090",
        "http://localhost:8090",
        "http://localhost.:8090",
        "http://mipos.localhost:8090",
        "http://sandbox:8090",
    ],
)
def test_this_machine_and_a_compose_service_may_be_called_unencrypted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    put(monkeypatch, **GOOD, MIPOS_BASE_URL=url)

    assert url == load_settings().mipos_base_url


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("MIPOS_CLIENT_SECERT=x", "Did you mean MIPOS_CLIENT_SECRET?"),
        ("RESPONSE_DEADLNE=3", "Did you mean RESPONSE_DEADLINE?"),
        ("MIPOS_TENANT=x", "is not a setting"),
    ],
)
def test_a_misspelt_name_in_the_env_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, said: str
) -> None:
    put(monkeypatch, **GOOD)
    (tmp_path / ".env").write_text(line)

    with pytest.raises(SettingsRefused, match=said.replace("?", r"\?")):
        load_settings()


@pytest.mark.parametrize(
    "line",
    [
        "a line of prose",
        "PUBLIC_URL: https://x.y",
        "PUBLIC_URL='https://x.y'x",
        "PUBLIC_URL",
        'POS_API_KEY="abcdefghijklmnopq # the key',
    ],
)
def test_a_line_of_the_env_file_that_cannot_be_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    put(monkeypatch, **GOOD)
    (tmp_path / ".env").write_text("# a comment\n\nexport TIMEZONE=UTC\n" * 25 + f"{line}\nLOG_LEVEL=INFO\n")

    with pytest.raises(SettingsRefused, match=r"Line 76 of \.env cannot be read\. Write NAME=value"):
        load_settings()


def test_an_env_file_that_is_named_and_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(monkeypatch, **GOOD)
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(tmp_path / "no.env"))

    with pytest.raises(SettingsRefused, match=f"POS_SYNC_ENV_FILE names {tmp_path}/no.env, and there is no such file"):
        load_settings()


def test_a_secret_file_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(monkeypatch, **GOOD)
    monkeypatch.setenv(CREDENTIALS_VARIABLE, str(tmp_path))
    file = tmp_path / "pos_api_key"
    file.symlink_to("/no/such")
    with pytest.raises(SettingsRefused, match=f"The secret file {file} leads to /no/such, which does not exist"):
        load_settings()
    file.unlink()
    file.mkdir()
    with pytest.raises(SettingsRefused, match=f"The secret file {file} is no file"):
        load_settings()
    file.rmdir()
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsRefused, match=f"The secret file {file} is not UTF-8"):
        load_settings()


def test_the_key_of_a_store_is_not_the_key_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, **GOOD, POS_API_KEY="abcdefghijklmnop", POS_STORE_KEYS="1=abcdefghijklmnop")

    with pytest.raises(SettingsRefused, match="POS_STORE_KEYS has a key that is POS_API_KEY"):
        load_settings()


def test_where_spans_go_is_checked_where_there_are_any(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip(MODULES["tracing"], reason="the extra 'tracing' is not installed")
    put(monkeypatch, **GOOD, OTEL_EXPORTER_OTLP_ENDPOINT='"http://127.0.0.1:4318"')
    load_settings()
    monkeypatch.setenv("TRACE_SAMPLE", "1")

    with pytest.raises(SettingsRefused, match="TRACE_SAMPLE: needs OTEL_EXPORTER_OTLP_ENDPOINT to look like"):
        load_settings()

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    (tmp_path / ".env").write_text("OTEL_EXPORTER_OTLP_TRACES_HEADERS=\nOTEL_EXPORTER_OTLP_TRACES_ENDPOINT=\n")
    load_settings()
    (tmp_path / ".env").write_text("OTEL_EXPORTER_OTLP_ENDPONT=x\n")
    with pytest.raises(SettingsRefused, match=r"Did you mean OTEL_EXPORTER_OTLP_ENDPOINT\?"):
        load_settings()


def test_names_of_others_in_the_env_file_are_allowed_or_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(monkeypatch, MIPOS_CLIENT_SECRET=GOOD["MIPOS_CLIENT_SECRET"])
    for name in ("PGPASSWORD", "PGPORT", "OTEL_SERVICE_NAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    lines = (
        "DATABASE_URL=postgresql://u@db/pos\nCOMPOSE_PROFILES=x\nDB_OWNER_PASSWORD=x\nPGPASSWORD=S3cret\nPGPORT=6000\nSHOP=x\n"
        "OTEL_SERVICE_NAME=shop\nOTEL_EXPORTER_OTLP_ENDPOINT=\n"
    )
    (tmp_path / ".env").write_text(lines)

    address = load_settings().database_address

    assert ("S3cret", 6000, "shop") == (address.password, address.hosts[0].port, os.environ["OTEL_SERVICE_NAME"])
    assert f"SHOP in {Path('.env')} is not a setting of this service.\n" == capsys.readouterr().err


def test_an_env_file_that_others_may_write_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(monkeypatch, **GOOD)
    (tmp_path / ".env").write_text("PORT=9000")
    (tmp_path / ".env").chmod(0o646)

    with pytest.raises(SettingsRefused, match="chmod go-w"):
        load_settings()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(
    ("owner", "mode", "is_refused"),
    [
        ((65534, 0), 0o600, True),
        ((0, 65534), 0o660, True),
        ((0, 65534), 0o640, False),
        ((0, 0), 0o660, False),
    ],
    ids=["another user's", "another group may write", "another group may read", "our own group may write"],
)
def test_an_env_file_of_another_user_or_that_another_group_may_write_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, owner: tuple[int, int], mode: int, *, is_refused: bool
) -> None:
    put(monkeypatch, **GOOD)
    file = tmp_path / ".env"
    file.write_text("PORT=9000")
    file.chmod(mode)
    os.chown(file, *owner)

    if is_refused:
        with pytest.raises(SettingsRefused, match=r"\.env can be written by another user"):
            load_settings()
    else:
        assert 9000 == load_settings().port


def test_what_is_nearest_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    docker, systemd = tmp_path / "secrets", tmp_path / "credentials"
    for folder, port in ((docker, "2"), (systemd, "3")):
        folder.mkdir()
        (folder / "port").write_text(port)
        (folder / "max_body_bytes").write_text(f"{int(port) * 1024}")
    (systemd / "waiting_line").write_text("3")
    (tmp_path / ".env").write_text("PORT=4\nMAX_BODY_BYTES=4096\nWAITING_LINE=4\nOUTBOX_PARALLEL=4\n")
    monkeypatch.setattr("app.settings.SECRETS_DIRECTORY", docker)
    put(monkeypatch, **GOOD, CREDENTIALS_DIRECTORY=str(systemd), PORT="1")

    found = load_settings()

    assert (1, 2048, 3, 4) == (found.port, found.max_body_bytes, found.waiting_line, found.outbox_parallel)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_secret_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mipos_client_secret").write_text("x")
    (tmp_path / "mipos_client_secret").chmod(0)
    monkeypatch.setattr("app.settings.SECRETS_DIRECTORY", tmp_path)
    put(monkeypatch, **GOOD)

    with pytest.raises(SettingsRefused, match="mipos_client_secret of user"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "abc", "must be a whole number, at least 0 and at most 65535"),
        ("OUTBOX_PARALLEL", "1.5", "must be a whole number, at least 1 and at most 64"),
        ("RESPONSE_DEADLINE", "0.1", "must be at least 0.5 and at most 60"),
        ("SYNC_EVERY", "often", "must be a number, more than 0 and at most 8760"),
        ("MAX_BODY_BYTES", "99999999", "must be at least 1024 and at most 1048576"),
        ("MIPOS_REGISTER_ON_STARTUP", "perhaps", "must be true or false"),
        ("LOG_FORMAT", "xml", "must be 'json' or 'console'"),
        ("NEGATIVE_STOCK", "maybe", "must be 'allow' or 'refuse'"),
    ],
)
def test_a_bad_value_is_told_with_what_to_write(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    put(monkeypatch, **{**GOOD, name: value})

    with pytest.raises(SettingsRefused, match=f"  {name}: {said}$"):
        load_settings()
