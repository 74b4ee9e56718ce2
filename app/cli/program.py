"""`pos-sync` itself: the list of its commands, and how a run of one ends."""

import importlib
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from app import version
from app.cli import INCOMPLETE, importing
from app.cli.group import CommandGroup
from app.settings import ENV_FILE_VARIABLE, SettingsRefused
from app.terminal import shows_colours
from app.visible_text import seen_lines

COMMANDS = {
    # name: (module, function, what it does)
    "alerts": ("alerts", "command", "Show what the service found wrong, acknowledge it, and test the alert webhook."),
    "capture": ("capture", "command", "Keep deliveries whose signature does not match, for a limited time."),
    "catalog": ("catalog", "command", "Import and export a store's catalog."),
    "completion": ("completion", "command", "Print or install the completion of commands and options for a shell."),
    "conformance": ("conformance", "command", "Test any receiver of the mipOS stock webhook by the vectors."),
    "dev": ("dev", "command", "Run everything on this machine, and send a first movement."),
    "doctor": ("service", "doctor_command", "Check everything that must be right, and say what to do where it is not."),
    "drift": ("drift", "drift_command", "Compare our stock with what the inventory systems reported, and say why they differ."),
    "duplicates": ("duplicates", "command", "List suspected duplicates, and apply or dismiss them."),
    "explain-signature": ("explanation", "explain_command", "Say why a signature does not match, and what to change where."),
    "item": ("item", "command", "Show and change the items of a store; retire them and bring them back."),
    "ledger": ("ledger", "command", "Show the movements of a period, and what they come to."),
    "migrate": ("service", "migrate_command", "Bring the database schema to the newest revision."),
    "movement": ("movement", "command", "Record what the POS sold, received, counted or moved."),
    "outbox": ("outbox", "command", "List stock updates for the inventory systems; retry or dismiss them."),
    "page": ("page", "command", "Let people into the operator page."),
    "ping": ("alerts", "ping_command", "Ask whether PUBLIC_URL leads to this service."),
    "prune": ("prune", "prune_command", "Delete what is settled and older than the settings say."),
    "reconcile": ("drift", "reconcile_command", "Adopt a number as the stock, with actor and note."),
    "refused": ("refusals", "command", "List refused deliveries, and replay or dismiss them."),
    "register": ("service", "register_command", "Register the webhook at mipOS now."),
    "restored": ("restore", "restored_command", "Make a database that came out of a backup safe to run on."),
    "reverse": ("movement", "reverse_command", "Take back one ledger row."),
    "rules": ("service", "rules_command", "Show and record the rules that decide what becomes of a movement."),
    "sandbox": ("sandbox", "command", "Run a stand-in mipOS; let it report a movement."),
    "seal": ("seal", "command", "Seal the ledger, and find out whether a row was changed since."),
    "send": ("sandbox", "send_command", "Sign a movement and send it to a webhook, as mipOS does."),
    "serve": ("service", "serve_command", "Run the service."),
    "status": ("status", "status_command", "Show the state of the service, and what a person has to act on."),
    "stock": ("stock", "stock_command", "Show stock levels, each with its unit."),
    "store": ("store", "command", "Show and set stores and their integrations."),
    "sync": ("sync", "command", "Send a store's whole inventory to its inventory system."),
}


INTERRUPTED = 130
"""As a shell counts a program that Ctrl-C has ended"""
BROKEN_PIPE = 141
"""As a shell counts one that wrote to a pipe that nobody reads any more"""


class _Shown(io.StringIO):
    """Takes all of a text: click strips what is for terminals where it writes to none."""

    def isatty(self) -> bool:
        return True


class _UnreadOutput(Exception):
    """Nobody reads what is printed any more."""


class _Commands(CommandGroup):
    """Loads a command's module only when it is called: importing all of them takes a second."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # click would end with 1, as after a failure.
            raise _UnreadOutput from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        with importing():
            command: click.Command = getattr(importlib.import_module(f"app.cli.{module}"), name)
        return command

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:  # noqa: ARG002 - that of a group
        return [(name, text) for name, (_, _, text) in sorted(COMMANDS.items())]


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read settings from this file instead of .env. Environment variables take precedence.",
)
@click.version_option(version(), prog_name="pos-sync")
@click.pass_context
def commands(context: click.Context, env_file: Path | None) -> None:
    """The POS side of mipOS inventory synchronisation.

    \b
    See it work:     pos-sync dev
    In production:   pos-sync migrate && pos-sync serve
    """
    if not shows_colours(sys.stdout):
        # For the commands too. Without it, click asks only whether there is a terminal.
        context.color = False
    if env_file is not None:
        os.environ[ENV_FILE_VARIABLE] = str(env_file.resolve())


def run() -> None:
    """Run the command that the arguments name, and end the process."""
    try:
        status = _run()
        for file in (sys.stdout, sys.stderr):
            file.flush()
    except (BrokenPipeError, _UnreadOutput):
        # Such as `pos-sync stock | head`. What is written at the end of the process must not fail either.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for file in (sys.stdout, sys.stderr):
            os.dup2(nowhere, file.fileno())
        status = BROKEN_PIPE
    # From here on, it is Python that ends, which would show a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _run() -> int | str | None:
    try:
        commands.main(prog_name="pos-sync", standalone_mode=False)
    except SystemExit as end:
        return end.code
    except SettingsRefused as error:
        click.echo(str(error), err=True)
        return 2
    except click.ClickException as error:
        # What it quotes was written by others.
        words = _Shown()
        error.show(words)
        click.echo(seen_lines(words.getvalue()), err=True, nl=False)
        return error.exit_code
    except click.Abort as abort:
        click.echo("Aborted!", err=True)
        return INTERRUPTED if isinstance(abort.__cause__ or abort.__context__, KeyboardInterrupt) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # An OSError too.
        raise
    except ImportError as error:
        click.echo(f"Error: {INCOMPLETE.format(error)}", err=True)
        return 1
    except OSError as error:
        # A file that cannot be read or written.
        about = f"{error.filename}: " if error.filename is not None else ""
        click.echo(f"Error: {about}{error.strerror or error}.", err=True)
        return 1
    return 0
