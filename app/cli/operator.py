"""Who runs a command, for what is kept of it."""

import getpass
import os

import click

from app.stock.text import fault_in

LONGEST_NAME = 255
LONGEST_NOTE = 2000


def _checked(longest: int) -> click.ParamType:
    class Checked(click.ParamType):
        name = "text"

        def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
            if fault := fault_in(value, longest=longest):
                self.fail(f"{fault}.", param, ctx)
            return value

    return Checked()


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return f"uid {os.getuid()}"


actor_option = click.option(
    "--actor", type=_checked(LONGEST_NAME), default=_user_name, show_default="your user name", help="Who does this."
)
note_option = click.option("--note", type=_checked(LONGEST_NOTE), required=True, help="Why; it is kept with it.")
