"""The commands; each calls the same use case that the service calls. `main` is the entry point `pos-sync`."""

import importlib
import os
import sys
from pathlib import Path

import click

from app.settings import ENV_FILE_VARIABLE, SettingsRefused
from app.version import version

_COMMANDS = {
    "catalog": ("app.cli.catalog", "Import and export a store's catalogue."),
    "dev": ("app.cli.dev", "Run everything here, on a Postgres of its own, and send a first movement."),
    "doctor": ("app.cli.doctor", "Check everything that has to be right, and say what to do where it is not."),
    "drift": ("app.cli.drift", "Compare our stock with what the inventory systems reported, and say why they differ."),
    "duplicates": ("app.cli.duplicates", "Look at suspected duplicates, and apply or dismiss them."),
    "migrate": ("app.cli.migrate", "Bring the database schema to the newest revision."),
    "movement": ("app.cli.movement", "Record a sale, a count or a receipt of the POS."),
    "outbox": ("app.cli.outbox", "List stock updates for the inventory systems; send them again, dismiss them."),
    "reconcile": ("app.cli.reconcile", "Adopt a number as our stock, with who and why."),
    "refused": ("app.cli.refused", "Look at refused deliveries, apply them after all, or put them aside."),
    "register": ("app.cli.register", "Register the webhook at mipOS now."),
    "rules": ("app.cli.rules", "Show and record the rules that decide what becomes of a movement."),
    "sandbox": ("app.cli.sandbox", "Run a stand-in mipOS; let it report a movement."),
    "send": ("app.cli.send", "Sign a movement and send it to a webhook, as mipOS does."),
    "serve": ("app.cli.serve", "Run the service."),
    "status": ("app.cli.status", "Show how things stand."),
    "stock": ("app.cli.stock", "Show stock levels."),
    "store": ("app.cli.store", "Show and set stores and their integrations."),
    "sync": ("app.cli.sync", "Send a store's whole inventory to its inventory system."),
}


class _Commands(click.Group):
    """Loads a command's module only when it is called: importing all of them takes a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(_COMMANDS.items())])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of settings, instead of .env. The environment goes before it.",
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
    """Run `pos-sync`; what a person can mend is one message and status 1 or 2, never a traceback."""
    try:
        commands(prog_name="pos-sync")
    except SettingsRefused as error:
        click.echo(str(error), err=True)
        sys.exit(2)
