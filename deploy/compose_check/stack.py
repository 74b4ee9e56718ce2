"""What must work in the stack, step by step. The commands are those of docs/deploying.md, run as they are printed there."""

import json
import re
import subprocess
from decimal import Decimal
from pathlib import Path

from deploy.compose_check.traffic import (
    POS_API_PORT,
    PROXY_PORT,
    Fault,
    call,
    deliver,
    expect,
    movement,
    stock,
    wait_until_ready,
)

SERVICES = ("db", "app", "proxy")
OPENING = Decimal("13.69")
"""The stock of the item in the samples"""
STEP = Decimal("0.5")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# As docker-compose.yml was when it made pos_owner the superuser.
_OLDER = """services:
  db:
    environment:
      POSTGRES_USER: pos_owner
      POSTGRES_DB: pos
      POSTGRES_PASSWORD: ${DB_OWNER_PASSWORD}
"""


class Stack:
    """The project in `folder`, and what its `.env` holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page = (folder / "docs" / "deploying.md").read_text(encoding="utf-8")

    def blocks(self, heading: str) -> list[tuple[str, str]]:
        """(language, text) of each block under a heading, up to the next one."""
        section = self.page.partition(f"# {heading}\n")[2]
        section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
        found = _BLOCK.findall(section)
        if not found:
            raise Fault(f"docs/deploying.md has no commands under {heading!r}")
        return found

    def run(self, script: str, *, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run lines of a shell in the project's folder."""
        return subprocess.run(
            ["sh", "-euc", script], cwd=self.folder, input=stdin, capture_output=True, text=True, check=False, timeout=300
        )

    def must(self, script: str, *, stdin: str | None = None) -> str:
        """Run lines that must succeed; return their output."""
        done = self.run(script, stdin=stdin)
        if done.returncode != 0:
            logs = self.run("docker compose logs --tail 20").stdout
            raise Fault(f"status {done.returncode} of:\n{script}\n{done.stdout}{done.stderr}\n{logs}")
        return done.stdout

    @property
    def env(self) -> dict[str, str]:
        """The lines of `.env`, without quotes."""
        lines = (self.folder / ".env").read_text(encoding="utf-8").splitlines()
        return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}

    def sql(self, query: str, role: str = "postgres") -> str:
        """What the role is answered, in the form of `psql --tuples-only --no-align`."""
        psql = f"psql --username {role} --dbname pos --tuples-only --no-align --set ON_ERROR_STOP=1 --file -"
        command = f"docker compose exec -T db {psql}"
        return self.must(command, stdin=query).strip()

    def delivery(self, date: str) -> int:
        """Deliver the movement that `date` tells apart; return the status."""
        return deliver(movement(date), self.env["MIPOS_CLIENT_SECRET"])

    def level(self) -> Decimal:
        """The stock, as the POS reads it."""
        return stock(self.env["POS_API_KEY"])


def check(folder: Path) -> None:
    """All steps.

    Raises:
        Fault: the first that does not work.
    """
    stack = Stack(folder)
    for step in (
        _documented_start,
        _env_file_is_kept,
        _deliveries,
        _ports,
        _containers,
        _secrets_where_they_belong,
        _roles,
        _restarts,
        _secrets_in_files,
        _extras,
        _trial_beside_it,
        _older_volume,
        _nothing_is_left,
    ):
        print(f"== {(step.__doc__ or '').splitlines()[0]}", flush=True)
        step(stack)


def _documented_start(stack: Stack) -> None:
    """The documented steps start everything and import the samples."""
    (stack.folder / "catalog.json").write_bytes((stack.folder / "app/samples/store-1.json").read_bytes())
    output = stack.must(stack.blocks("With Docker Compose")[0][1])
    expect("import by standard input", "New store 1: added 3" in output, True)
    second = stack.run("docker compose run --rm app status")
    expect("a second app says", "Address already in use" in second.stdout + second.stderr, True)
    listed = stack.must("docker compose exec -T app cat /venv/sbom.cdx.json")
    expect("the image lists its parts", all(f'"{name}"' in listed for name in ("fastapi", "asyncpg", "mipos-pos-sync")), True)
    expect("mode of .env", oct((stack.folder / ".env").stat().st_mode & 0o777), "0o600")


def _env_file_is_kept(stack: Stack) -> None:
    """The documented line does not overwrite an .env."""
    before = (stack.folder / ".env").read_bytes()
    script = stack.blocks("With Docker Compose")[0][1].partition("\ndocker compose")[0]
    expect("status of the line where there is an .env", stack.run(script).returncode != 0, True)
    expect("unchanged", (stack.folder / ".env").read_bytes() == before, True)


def _deliveries(stack: Stack) -> None:
    """Signed deliveries through the proxy change the stock once."""
    expect("stock after the import", stack.level(), OPENING)
    expect("a delivery", stack.delivery("2026-01-01 10:00:00"), 204)
    expect("the same once more", stack.delivery("2026-01-01 10:00:00"), 204)
    expect("stock", stack.level(), OPENING - STEP)
    expect("another secret", deliver(movement("2026-01-01 11:00:00"), "another-secret-of-mipos"), 401)


def _ports(stack: Stack) -> None:
    """The proxy lets the webhook and the probes in; the port of the POS has the rest."""
    inner = {"/metrics": 200, "/docs": 200, "/pos/stores/1/stock": 401}
    for path, status in inner.items():
        expect(f"proxy, {path}", call(PROXY_PORT, path)[0], 404)
        expect(f"port of the POS, {path}", call(POS_API_PORT, path)[0], status)
    expect("proxy, /livez", call(PROXY_PORT, "/livez")[0], 200)
    call(POS_API_PORT, "/pos/stores/1/forged", headers={"X-Forwarded-For": "203.0.113.9"})
    log = stack.must("docker compose logs --no-log-prefix app")
    expect("X-Forwarded-For of a caller who is not the proxy is believed", "203.0.113.9" in log, False)


def _containers(stack: Stack) -> None:
    """No container has a capability, a file system to write to, a root user or a log without end."""
    for service in SERVICES:
        container = stack.must(f"docker compose ps --quiet {service}").strip()
        seen = json.loads(stack.must(f"docker inspect {container}"))[0]
        host = seen["HostConfig"]
        expect(f"{service}, read-only", host["ReadonlyRootfs"], True)
        expect(f"{service}, capabilities", (host["CapDrop"], host["CapAdd"]), (["ALL"], None))
        expect(f"{service}, options", host["SecurityOpt"], ["no-new-privileges:true"])
        expect(f"{service}, log", sorted(host["LogConfig"]["Config"]), ["max-file", "max-size"])
        expect(f"{service}, runs as root", stack.must(f"docker compose exec -T {service} id -u").strip() == "0", False)
        written = stack.run(f"docker compose exec -T {service} touch /var/written")
        expect(f"{service}, says", "Read-only file system" in written.stderr, True)
    where = stack.must("docker compose exec -T app python -c 'import os; print(os.getcwd(), os.stat(\".\").st_mode & 0o022)'")
    expect("working directory of the service, and who else may write there", where.strip(), "/ 0")


def _secrets_where_they_belong(stack: Stack) -> None:
    """Each password reaches only the containers that need it."""
    services = json.loads(stack.must("docker compose --profile sandbox config --format json"))["services"]
    secrets = {name: value for name, value in stack.env.items() if "PASSWORD" in name or "SECRET" in name or "KEY" in name}
    seen = {name: sorted(s for s in services if secrets[name] in json.dumps(services[s])) for name in secrets}
    wanted = {
        "DB_SUPERUSER_PASSWORD": ["db"],
        "DB_OWNER_PASSWORD": ["db", "migrate"],
        "DB_SERVICE_PASSWORD": ["app", "db"],
        "POS_API_KEY": ["app"],
        "MIPOS_CLIENT_SECRET": ["app"],
    }
    expect("containers with each", seen, wanted)


def _roles(stack: Stack) -> None:
    """The owner is no superuser, and the start script leaves what is there as it is."""
    superusers = "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolsuper"
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'pos'"
    expect("superusers", stack.sql(superusers), "postgres")
    expect("owner of the database", stack.sql(owner), "pos_owner")
    passwords = "SELECT string_agg(rolpassword, ',' ORDER BY rolname) FROM pg_authid WHERE rolpassword IS NOT NULL"
    before = stack.sql(passwords)
    again = "docker compose exec -T -e OWNER_PASSWORD=x -e SERVICE_PASSWORD=x db sh /docker-entrypoint-initdb.d/10-roles.sh"
    stack.must(again)
    expect("passwords are kept", stack.sql(passwords) == before, True)


def _restarts(stack: Stack) -> None:
    """Restarts and replaced containers keep the stock, and the proxy finds the service again."""
    level = stack.level()
    for number, script in enumerate(
        (
            "docker compose restart",
            "docker compose up --detach --force-recreate --no-deps app",
            "docker compose down && docker compose up --detach",
        )
    ):
        stack.must(script)
        wait_until_ready()
        expect(f"stock after {script!r}", stack.level(), level)
        expect("a delivery", stack.delivery(f"2026-01-02 10:00:0{number}"), 204)
        level -= STEP
        expect("stock", stack.level(), level)


def _secrets_in_files(stack: Stack) -> None:
    """A secret in a file, as documented, counts where .env leaves it empty."""
    env_file, override = stack.folder / ".env", stack.folder / "docker-compose.override.yml"
    text, secrets = env_file.read_text(encoding="utf-8"), stack.folder / "secrets"
    secrets.mkdir()
    (secrets / "mipos_client_secret").write_text("the-secret-in-the-file\n", encoding="utf-8")
    (secrets / "pos_api_key").write_text(stack.env["POS_API_KEY"], encoding="utf-8")
    env_file.write_text(re.sub(r"^(MIPOS_CLIENT_SECRET|POS_API_KEY)=.*$", r"\1=", text, flags=re.MULTILINE), encoding="utf-8")
    documented = stack.blocks("Secrets in files")
    override.write_text(documented[0][1], encoding="utf-8")
    stack.must(documented[1][1])
    wait_until_ready()
    expect("a delivery", deliver(movement("2026-01-03 10:00:00"), "the-secret-in-the-file"), 204)
    (secrets / "mipos_client_secret").chmod(0o600)
    stack.must("docker compose stop app")
    refused = stack.run("docker compose run --rm app serve")
    expect("status with a file that cannot be read", refused.returncode, 2)
    expect("it names the file", "/run/secrets/mipos_client_secret" in refused.stdout + refused.stderr, True)
    override.unlink()
    env_file.write_text(text, encoding="utf-8")
    stack.must("docker compose up --detach")
    wait_until_ready()


def _extras(stack: Stack) -> None:
    """Checkpoints are signed and traces are made, where .env asks for them."""
    made = stack.must("docker compose exec -T app pos-sync seal key").splitlines()
    seed, public = made[0].partition("=")[2], made[1].removeprefix("public key: ")
    env_file = stack.folder / ".env"
    text = env_file.read_text(encoding="utf-8")
    env_file.write_text(f"{text}SEAL_SIGNING_KEY={seed}\nTRACE_SAMPLE=1\nOTEL_SERVICE_NAME=shop\n", encoding="utf-8")
    stack.must("docker compose up --detach")
    wait_until_ready()
    expect("a delivery", stack.delivery("2026-01-03 11:00:00"), 204)
    expect("OTEL_SERVICE_NAME there", stack.must("docker compose exec -T app printenv OTEL_SERVICE_NAME").strip(), "shop")
    stack.must("docker compose exec -T app pos-sync seal now")
    verified = stack.run(f"docker compose exec -T app pos-sync seal verify --public-key {public}")
    expect("status of verifying the signatures", verified.returncode, 0)
    env_file.write_text(text, encoding="utf-8")
    stack.must("docker compose up --detach")
    wait_until_ready()


def _trial_beside_it(stack: Stack) -> None:
    """The trial with the sandbox runs beside the real project and leaves it alone."""
    before = stack.level()
    output = stack.must(stack.blocks("With Docker Compose")[1][1])
    expect("the sandbox's delivery", "204" in output, True)
    expect("stock in the trial", re.findall(r"avcc123 .* (\d+\.\d+) ", output), [str(OPENING - STEP)])
    expect("stock in the real one", stack.level(), before)


def _older_volume(stack: Stack) -> None:
    """A volume whose superuser is pos_owner gets an owner that is none, as documented."""
    stack.must("docker compose down --volumes")
    (stack.folder / "older.yml").write_text(_OLDER, encoding="utf-8")
    older = "docker compose --file docker-compose.yml --file older.yml"
    stack.must(f"{older} up --detach; {older} exec -T app pos-sync catalog import --store 1 - < catalog.json")
    is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = 'pos_owner'"
    expect("pos_owner was a superuser", stack.sql(is_superuser, "pos_owner"), "t")
    env_file = stack.folder / ".env"
    kept = [line for line in env_file.read_text(encoding="utf-8").splitlines(keepends=True) if "SUPERUSER" not in line]
    env_file.write_text("".join(kept), encoding="utf-8")
    stack.must(stack.blocks("A volume from before the role `postgres`")[0][1])
    wait_until_ready()
    expect("pos_owner is a superuser", stack.sql(is_superuser), "f")
    left = "SELECT count(*) FROM pg_class WHERE relkind IN ('r','S','v') AND relowner = 10 AND oid >= 16384"
    expect("tables that postgres still owns", stack.sql(left), "0")
    expect("stock", stack.level(), OPENING)
    expect("a delivery", stack.delivery("2026-01-04 10:00:00"), 204)


def _nothing_is_left(stack: Stack) -> None:
    """Taken down, nothing of it is left."""
    stack.must("docker compose down --volumes")
    left = stack.must("docker ps --all --quiet; docker volume ls --quiet; docker network ls --quiet --filter type=custom")
    expect("containers, volumes and networks", left.split(), [])
