"""The class of every group of commands: its help shows whole sentences, and a misspelt command is named."""

from typing import NoReturn

import click
from click.shell_completion import CompletionItem


class CommandGroup(click.Group):
    """As click's, but nothing in its help is cut."""

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        """(name, one sentence) of each command."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        return [(name, _first_sentence(command.help or "")) for name, command in found if command and not command.hidden]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their sentences."""
        with formatter.section("Commands"):
            formatter.write_dl(self.summaries(ctx))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of one that there is not, the nearest names are said."""
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            self._refuse(ctx, name)
        return super().resolve_command(ctx, args)

    def _refuse(self, ctx: click.Context, name: str) -> NoReturn:
        raise click.NoSuchCommand(name, possibilities=self.list_commands(ctx), ctx=ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so. Their modules are not loaded for that."""
        found = [CompletionItem(name, help=text) for name, text in self.summaries(ctx) if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def _first_sentence(text: str) -> str:
    """The first paragraph up to the end of its first sentence."""
    paragraph = " ".join(text.split("\n\n", 1)[0].replace("\b", "").split())
    sentence, found, _ = paragraph.partition(". ")
    return f"{sentence}." if found else paragraph
