"""`pos-sync completion`: the completion of commands and options by bash, zsh and fish, as click makes it."""

import json
import os
import shlex
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from app.cli.options import json_option

SHELLS = ("bash", "zsh", "fish")
_PROGRAM, _VARIABLE = "pos-sync", "_POS_SYNC_COMPLETE"
_MARK = "# completion of pos-sync"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", "installs", is_flag=True, help="Write it where the shell finds it, instead of printing it.")
@json_option
def command(shell: str | None, *, installs: bool, as_json: bool) -> None:
    """Print the script by which SHELL completes commands and options, or install it for your user.

    Without SHELL, it is the one that the variable SHELL names. Installed again, it is replaced. New shells have it.

    \b
    Example:  pos-sync completion bash --install
    """
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        raise click.UsageError(f"Name a shell: {', '.join(SHELLS)}.")
    script = _script_of(chosen)
    if not installs:
        click.echo(_json({"shell": chosen, "script": script}) if as_json else script)
        return
    file = _file_of(chosen)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{script}\n", encoding="utf-8")
    start = _start_file_of(chosen)
    is_added = start is not None and _read_from(start, _line_of(chosen, file))
    if as_json:
        start_file = None if start is None else str(start)
        click.echo(_json({"shell": chosen, "path": str(file), "start_file": start_file, "is_line_added": is_added}))
        return
    click.echo(f"Wrote {file}.")
    if is_added:
        click.echo(f"Added a line to {start}.")
    click.echo(f"It works in each new {chosen}.")


def _json(document: dict[str, object]) -> str:
    # Not by app.cli.output: all that it imports would double the time of a shell that asks for this at each start.
    return json.dumps(document, ensure_ascii=False, indent=2)


def _script_of(shell: str) -> str:
    made = get_completion_class(shell)
    assert made is not None
    completion = made(click.Command(_PROGRAM), {}, _PROGRAM, _VARIABLE)
    # Not `source()`, which starts the shell to ask for its version.
    return completion.source_template % completion.source_vars()


def _file_of(shell: str) -> Path:
    if shell == "fish":
        return _folder("XDG_CONFIG_HOME", ".config") / "fish" / "completions" / f"{_PROGRAM}.fish"
    return _folder("XDG_DATA_HOME", ".local/share") / _PROGRAM / f"completion.{shell}"


def _folder(variable: str, usual: str) -> Path:
    given = os.environ.get(variable)
    return Path(given) if given else Path.home() / usual


def _start_file_of(shell: str) -> Path | None:
    """The file that the shell reads when it starts; fish finds its completions by itself."""
    match shell:
        case "bash":
            return Path.home() / ".bashrc"
        case "zsh":
            return Path(os.environ.get("ZDOTDIR") or Path.home()) / ".zshrc"
        case _:
            return None


def _line_of(shell: str, file: Path) -> str:
    source = f"source {shlex.quote(str(file))}"
    if shell == "zsh":
        source = f"(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}; {source}"
    return f"{source}  {_MARK}"


def _read_from(start: Path, line: str) -> bool:
    """Let the shell's start file read it: one line at its end, once. Whether it was added now."""
    text = start.read_text(encoding="utf-8") if start.exists() else ""
    if _MARK in text:
        return False
    with start.open("a", encoding="utf-8") as file:
        file.write(f"{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n")
    return True
