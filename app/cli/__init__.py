"""The commands; each calls the same use case that the service calls. `main` is the entry point `pos-sync`."""

import importlib
import os
import sys
from pathlib import Path

import click

from app import version
from app.settings import ENV_FILE_VARIABLE, SettingsRefused

_COMMANDS = {
    # name: (module, function, what it does)
    "alerts": ("alerts", "command", "List the messages of the alert webhook, send a test, acknowledge problems."),
    "capture": ("capture", "command", "Keep deliveries whose signature does not match, for a limited time."),
    "catalog": ("catalog", "command", "Import and export a store's catalog."),
    "conformance": ("conformance", "command", "Test any receiver of the mipOS stock webhook by the vectors."),
    "dev": ("dev", "command", "Run everything on this machine, and send a first movement."),
    "doctor": ("service", "doctor_command", "Check everything that must be right, and say what to do where it is not."),
    "drift": ("stock", "drift_command", "Compare our stock with what the inventory systems reported, and say why they differ."),
    "duplicates": ("duplicates", "command", "List suspected duplicates, and apply or dismiss them."),
    "explain-signature": ("explanation", "explain_command", "Say why a signature does not match, and what to change where."),
    "item": ("item", "command", "Show and change the items of a store; retire them and bring them back."),
    "ledger": ("ledger", "command", "Show the movements of a period, and what they come to."),
    "migrate": ("service", "migrate_command", "Bring the database schema to the newest revision."),
    "movement": ("movement", "command", "Record what the POS sold, received, counted or moved."),
    "outbox": ("outbox", "command", "List stock updates for the inventory systems; retry or dismiss them."),
    "ping": ("alerts", "ping_command", "Ask whether PUBLIC_URL leads to this service."),
    "reconcile": ("stock", "reconcile_command", "Adopt a number as the stock, with actor and note."),
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
    "stock": ("stock", "stock_command", "Show stock levels."),
    "store": ("store", "command", "Show and set stores and their integrations."),
    "sync": ("sync", "command", "Send a store's whole inventory to its inventory system."),
}


class _Commands(click.Group):
    """Loads a command's module only when it is called: importing all of them takes a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"app.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in sorted(_COMMANDS.items())])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read settings from this file instead of .env. Environment variables take precedence.",
)
@click.version_option(version(), prog_name="pos-sync")
def commands(env_file: Path | None) -> None:
    """The POS side of mipOS inventory synchronisation.

    \b
    See it work:     pos-sync dev
    In production:   pos-sync migrate && pos-sync serve
    """
    if env_file is not None:
        os.environ[ENV_FILE_VARIABLE] = str(env_file.resolve())


def main() -> None:
    """Run `pos-sync`; what a person can correct is one message and status 1 or 2, never a traceback."""
    try:
        commands(prog_name="pos-sync")
    except SettingsRefused as error:
        click.echo(str(error), err=True)
        sys.exit(2)
