"""What is generated from the settings: `.env.example`, the table of docs/configuration.md, and the lists of docker-compose.yml.

`python -m tests.support.configuration` writes them; a test holds them to the settings.
"""

from pathlib import Path

from app.database_settings import DatabaseSettings
from app.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"
PAGE = ROOT / "docs" / "configuration.md"
COMPOSE = ROOT / "docker-compose.yml"
SET_BY_COMPOSE = {"database_url", "host", "port", "forwarded_allow_ips"}
"""What the Compose file decides by itself: it follows from its networks and its database."""
REFUSED_UNLESS_NAMED = {"mipos_client_secret"}
"""Compose says so before it starts anything. An empty value passes: the secret can be a file."""
COMPOSE_MEANINGS = {
    "DB_SUPERUSER_PASSWORD": "The password of the superuser `postgres` of Compose's database. Required there.",
    "DB_OWNER_PASSWORD": "The password of pos_owner, who owns the schema. Required there.",
    "DB_SERVICE_PASSWORD": "The password of pos_sync, the role of the service. Required there.",
    "PROXY_PORT": "The port of nginx on this machine. Default: 8080",
    "POS_API_PORT": "The port of the service itself on this machine, for /pos/, /metrics and /docs. Default: 8081",
    "EDGE_PREFIX": "The first three numbers of the proxy's network. Default: 10.231.77",
}
TRACING_MEANINGS = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "Where spans go by OTLP over HTTP, such as http://collector:4318",
    "OTEL_EXPORTER_OTLP_HEADERS": "Headers for it, such as Authorization=Bearer%20token",
    "OTEL_SERVICE_NAME": "What the service is called there. Default: pos-sync",
    "OTEL_RESOURCE_ATTRIBUTES": "What else is told of it, such as deployment.environment.name=shop",
}
_LISTS_START = "x-database-settings: &database-settings\n"
_LISTS_END = "# End of the lists.\n"


def example() -> str:
    """The text of `.env.example`: each setting with its type, default and meaning; the required ones first."""
    lines = [
        "# Settings of pos-sync. Copy to .env, if there is none, and fill in. Each can also be an environment variable or a file",
        "# in /run/secrets with its name in lower case; these go first. Made by `python -m tests.support.configuration`.",
    ]
    for name, field in sorted(Settings.model_fields.items(), key=lambda item: not item[1].is_required()):
        lines += ["", f"# {field.description}"]
        if field.is_required():
            lines += ["# Required.", f"{name.upper()}="]
        else:
            default = "" if field.default is None else getattr(field.default, "value", field.default)
            lines += [f"# Default: {default if default != '' else '(not set)'}", f"# {name.upper()}={default}"]
    lines += ["", "# What follows is read by OpenTelemetry, where TRACE_SAMPLE is set; so is every other variable of its SDK."]
    for name, meaning in TRACING_MEANINGS.items():
        lines += ["", f"# {meaning}", f"# {name}="]
    lines += ["", "# What follows is for Docker Compose only (docs/deploying.md)."]
    for name, meaning in COMPOSE_MEANINGS.items():
        lines += ["", f"# {meaning}", f"# {name}="]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The settings as the table of docs/configuration.md."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in sorted(Settings.model_fields.items(), key=lambda item: not item[1].is_required()):
        default = "**required**" if field.is_required() else f"`{getattr(field.default, 'value', field.default)}`"
        lines.append(f"| `{name.upper()}` | {'' if field.default is None else default} | {field.description} |")
    return "\n".join(lines) + "\n"


def compose_lists() -> str:
    """The settings as the lists of docker-compose.yml: those of every command, and the others of the service."""
    database = [name for name in DatabaseSettings.model_fields if name not in SET_BY_COMPOSE]
    service = [name for name in Settings.model_fields if name not in {*SET_BY_COMPOSE, *DatabaseSettings.model_fields}]
    lines = [
        "x-database-settings: &database-settings",
        *(_line_of_compose(name) for name in database),
        "x-settings: &settings",
        *(_line_of_compose(name) for name in [*service, *map(str.lower, TRACING_MEANINGS)]),
    ]
    return "\n".join(lines) + "\n"


def _line_of_compose(name: str) -> str:
    variable = name.upper()
    absent = f"?set {variable} in .env (docs/deploying.md)" if name in REFUSED_UNLESS_NAMED else ":-"
    return f"  {variable}: ${{{variable}{absent}}}"


def compose_file() -> str:
    """docker-compose.yml with its lists as they should be."""
    text = COMPOSE.read_text(encoding="utf-8")
    return text[: text.index(_LISTS_START)] + compose_lists() + text[text.index(_LISTS_END) :]


def write() -> None:
    """Bring all of them up to date."""
    COMPOSE.write_text(compose_file(), encoding="utf-8")
    EXAMPLE.write_text(example(), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    start = page.index("| setting | default")
    PAGE.write_text(page[:start] + table() + page[page.index("\n## Variables", start) :], encoding="utf-8")


if __name__ == "__main__":
    write()
