"""The pages that are generated from the settings: `.env.example`, and the table of docs/configuration.md.

`python -m tests.support.configuration` writes both; a test holds them to the settings.
"""

from pathlib import Path

from app.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"
PAGE = ROOT / "docs" / "configuration.md"


def example() -> str:
    """The text of `.env.example`: each setting with its type, default and meaning; the required ones first."""
    lines = [
        "# Settings of pos-sync. Copy to .env and fill in; each can also be an environment variable (which goes first)",
        "# or a file of that name, in lower case, in /run/secrets. Made by `python -m tests.support.configuration`.",
    ]
    for name, field in sorted(Settings.model_fields.items(), key=lambda item: not item[1].is_required()):
        lines += ["", f"# {field.description}"]
        if field.is_required():
            lines += ["# Required.", f"{name.upper()}="]
        else:
            default = "" if field.default is None else getattr(field.default, "value", field.default)
            lines += [f"# Default: {default if default != '' else '(not set)'}", f"# {name.upper()}={default}"]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The settings as the table of docs/configuration.md."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in sorted(Settings.model_fields.items(), key=lambda item: not item[1].is_required()):
        default = "**required**" if field.is_required() else f"`{getattr(field.default, 'value', field.default)}`"
        lines.append(f"| `{name.upper()}` | {'' if field.default is None else default} | {field.description} |")
    return "\n".join(lines) + "\n"


def write() -> None:
    """Bring both pages up to date."""
    EXAMPLE.write_text(example(), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    start = page.index("| setting | default")
    PAGE.write_text(page[:start] + table() + page[page.index("\n## Variables", start) :], encoding="utf-8")


if __name__ == "__main__":
    write()
