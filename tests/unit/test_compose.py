"""docker-compose.yml, the Dockerfile and deploy/sandbox.env, as texts. `deploy/verify-compose` starts them for real."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values

from app.env_file import COMPOSE_NAMES, OTHER_NAMES, TRACING_NAMES
from app.settings import NAMES, Settings
from tests.support.configuration import COMPOSE, COMPOSE_MEANINGS, SET_BY_COMPOSE, TRACING_MEANINGS, compose_file

ROOT = Path(__file__).parents[2]
TEXT = COMPOSE.read_text(encoding="utf-8")
SANDBOX = dotenv_values(ROOT / "deploy" / "sandbox.env")
_SERVICE = re.compile(r"^  (?P<name>\w+):\n(?P<text>(?:    .*\n|\n|  #.*\n)+)", re.MULTILINE)
_PART = TEXT.partition("\nservices:\n")[2].partition("\nnetworks:")[0]
SERVICES = {found["name"]: found["text"] for found in _SERVICE.finditer(_PART)}


def test_every_setting_of_the_env_file_reaches_the_service() -> None:
    assert compose_file() == TEXT, "python -m tests.support.configuration"
    assert "<<: [*database-settings, *settings]" in SERVICES["app"]
    assert all(f"      {name.upper()}: " in SERVICES["app"] for name in SET_BY_COMPOSE)


def test_the_compose_file_reads_the_settings_and_the_names_that_an_env_file_may_have_for_it() -> None:
    read = set(re.findall(r"\$\{(\w+)", TEXT))

    assert COMPOSE_NAMES == read - NAMES - TRACING_NAMES == set(COMPOSE_MEANINGS)
    assert TRACING_NAMES == set(TRACING_MEANINGS)
    assert read - OTHER_NAMES - TRACING_NAMES == NAMES - {name.upper() for name in SET_BY_COMPOSE}


def test_the_file_of_the_trial_holds_settings_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SANDBOX.items():
        monkeypatch.setenv(name, value or "")
    monkeypatch.setenv("DATABASE_URL", "postgresql://pos_sync@db/pos")

    assert set(SANDBOX) <= NAMES | COMPOSE_NAMES
    assert Settings().has_mipos_account  # type: ignore[call-arg]


def test_the_sandbox_never_gets_the_real_secret() -> None:
    assert f"MIPOS_CLIENT_SECRET: {SANDBOX['MIPOS_CLIENT_SECRET']}\n" in SERVICES["sandbox"]
    assert "${" not in SERVICES["sandbox"]


def test_every_service_is_locked() -> None:
    assert {"db", "migrate", "app", "proxy", "sandbox"} == set(SERVICES)
    assert all("    <<: *locked\n" in text for text in SERVICES.values())


@pytest.mark.parametrize("port", re.findall(r'"(.*):8080"', TEXT))
def test_a_published_port_is_of_this_machine_only(port: str) -> None:
    assert port.startswith("127.0.0.1:")


def test_no_file_needs_a_docker_of_this_year() -> None:
    # Docker before 25 refuses it, and so does buildah.
    lines = (TEXT + (ROOT / "Dockerfile").read_text()).splitlines()

    assert not [line for line in lines if re.match(r"[^#]*start[-_]interval", line)]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed (Debian: apt-get install openssl)")
def test_the_documented_line_makes_an_env_file_once(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    line = page.partition("## With Docker Compose")[2].partition("```sh\n")[2].partition("docker compose")[0]
    statuses = []
    written = set()
    for _ in range(2):
        statuses.append(subprocess.run(["sh", "-euc", line], cwd=tmp_path, capture_output=True, check=False).returncode == 0)
        written.add((tmp_path / ".env").read_bytes())

    assert [True, False] == statuses
    assert 1 == len(written)
    assert 0o600 == (tmp_path / ".env").stat().st_mode & 0o777
    required = set(re.findall(r"\$\{(\w+):?\?", TEXT))
    assert required <= set(dotenv_values(tmp_path / ".env"))
