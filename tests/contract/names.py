"""Part of `make check`: the names of modules are nouns of docs/glossary.md, or stand below with a reason; none is too long."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAX_LINES = 300
EXEMPT = {
    "applying": "a room, named after what it does: the engine between receiving and storage",
    "receiving": "a room, named after what it does",
    "errors": "the field's word",
    "failure": "the field's word for a call that had no answer",
    "storage": "the field's word",
    "operations": "the field's word",
    "cli": "the field's word",
    "samples": "the field's word",
    "main": "the composition root, as FastAPI's own documents name it",
    "settings": "pydantic's word",
    "address": "the field's word for where a server is",
    "setting": "the field's word",
    "url": "the field's word",
    "attempts": "the field's word",
    "values": "the field's word",
    "env": "Docker's word: an env file",
    "file": "the field's word",
    "scope": "ASGI's word",
    "tracing": "OpenTelemetry's word",
    "acting": "a module, named after what it does: forms that change something",
    "refusing": "a module, named after what it does: saying no, as a page",
    "rendering": "the field's word for making pages of templates",
    "filters": "the field's word",
    "context": "the field's word for what the parts of one thing share",
    "search": "the field's word",
    "lists": "the field's word",
    "words": "of the page, to be translated",
    "sentence": "of the page, kept and told in each visitor's language",
    "certificate": "TLS's word",
    "path": "HTTP's word",
    "methods": "HTTP's word",
    "location": "HTTP's word",
    "id": "the field's word",
    "wire": "the field's word for bytes between systems",
    "csv": "a format",
    "cells": "the field's word",
    "visible": "an adjective: text in which nothing is hidden",
    "text": "a type of data",
    "dev": "the command",
    "doctor": "the command",
    "demo": "the field's word",
    "setup": "the field's word",
    "options": "click's word",
    "subjects": "what a command is asked about: store, item, system",
    "processes": "the field's word",
    "program": "the field's word",
    "group": "click's word for a command that has commands",
    "completion": "the field's word for what a shell adds at Tab",
    "progress": "the field's word",
    "terminal": "the field's word",
    "output": "the field's word",
    "database": "the field's word",
    "run": "uvicorn's word for starting a server",
    "protocol": "uvicorn's class",
    "healthcheck": "Docker's word",
    "systemd": "the program, and what it wants to be told",
    "status": "the command",
    "service": "systemd's word for what runs",
    "judging": "a module, named after what it does: facts in, problems out",
    "counts": "the field's word",
    "ailment": "of the entry health",
    "periodic": "the field's word for what is done again and again",
    "engine": "SQLAlchemy's word",
    "driver": "the field's word",
    "indexes": "the field's word",
    "move": "the field's word for what ALTER ... SET SCHEMA does",
    "clock": "the field's word",
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
    "browsers": "the field's word",
    "redaction": "the field's word for blacking out secrets",
    "answers": "what mipOS answers",
    "schedule": "the field's word",
    "wiring": "a noun: the parts put together",
    "account": "mipOS's word",
    "writer": "what writes",
    "reader": "what reads",
}


def check(root: Path) -> list[str]:
    """The modules whose names are explained nowhere."""
    glossary = (root / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = {
        term.strip().lower() for row in re.findall(r"^\| ([a-zA-Z, ]+) \|", glossary, re.MULTILINE) for term in row.split(",")
    }
    plurals = {f"{term}s" for term in terms} | {f"{term[:-1]}ies" for term in terms}
    known = {term.replace(" ", "_") for term in terms | plurals} | set(EXEMPT)
    paths = [path for path in sorted((root / "app").rglob("*")) if path.suffix == ".py" or (path / "__init__.py").exists()]
    return [
        f"{path.relative_to(root)}"
        for path in paths
        if not path.name.startswith("__") and path.stem not in known and not set(path.stem.split("_")) <= known
    ]


def too_long(root: Path) -> list[str]:
    """The modules that should be split, by noun."""
    counted = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sorted((root / "app").rglob("*.py"))}
    return [f"{path.relative_to(root)}: {lines} lines" for path, lines in counted.items() if lines > MAX_LINES]


if __name__ == "__main__":
    found = {"Neither nouns of docs/glossary.md nor exempt:": check(ROOT), f"Past {MAX_LINES} lines:": too_long(ROOT)}
    for heading, paths in found.items():
        if paths:
            print("\n".join([heading, *paths]))
    sys.exit(1 if any(found.values()) else 0)
