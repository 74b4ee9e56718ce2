"""Part of `make check`: the names of modules are nouns of docs/glossary.md, or stand below with a reason."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXEMPT = {
    "main": "the composition root, as FastAPI's own documents name it",
    "settings": "pydantic's word",
    "scope": "ASGI's word",
    "wire": "the field's word for bytes between systems",
    "csv": "a format",
    "text": "a type of data",
    "dev": "the command",
    "doctor": "the command",
    "demo": "the field's word",
    "setup": "the field's word",
    "options": "click's word",
    "output": "the field's word",
    "database": "the field's word",
    "run": "uvicorn's word for starting a server",
    "protocol": "uvicorn's class",
    "healthcheck": "Docker's word",
    "service": "systemd's word for what runs",
    "engine": "SQLAlchemy's word",
    "embedded": "the name of the package",
    "postgres": "the database",
    "tables": "the field's word",
    "migrations": "the field's word",
    "transactions": "the field's word",
    "platform": "what the sandbox plays",
    "server": "the field's word",
    "access": "an access log is a log of requests",
    "log": "the field's word",
    "logs": "the field's word",
    "metrics": "the field's word",
    "supervisor": "the field's word for what restarts a task",
    "endpoint": "the field's word",
    "body": "HTTP's word",
    "sender": "HTTP's word",
    "api": "the field's word",
    "key": "the field's word",
    "queries": "the field's word",
    "requests": "HTTP's word",
    "client": "HTTP's word",
    "answers": "what mipOS answers",
    "schedule": "the field's word",
    "wiring": "a noun: the parts put together",
    "account": "mipOS's word",
    "writer": "what writes",
}


def check(root: Path) -> list[str]:
    """The modules whose names are explained nowhere."""
    glossary = (root / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\| ([a-zA-Z, ]+) \|", glossary, re.MULTILINE)
    nouns = {word for term in terms for word in re.split(r"[ ,]+", term.lower())}
    plurals = {f"{noun}s" for noun in nouns} | {f"{noun[:-1]}ies" for noun in nouns}
    known = nouns | plurals | set(EXEMPT)
    modules = [path for path in sorted((root / "app").rglob("*.py")) if not path.name.startswith("__")]
    return [f"{module.relative_to(root)}: {word}" for module in modules for word in module.stem.split("_") if word not in known]


if __name__ == "__main__":
    unexplained = check(ROOT)
    print("\n".join(["Neither nouns of docs/glossary.md nor exempt:", *unexplained]) if unexplained else "", end="")
    sys.exit(1 if unexplained else 0)
