"""`pos-sync restored`: what has to be done when a database came out of a backup."""

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.database import in_transaction
from app.cli.options import actor_option, json_option
from app.cli.output import document_of, show_json
from app.cli.progress import progress
from app.storage.migrations import read_schema_state
from app.storage.restore import Restored, begin_anew
from app.storage.rights import GuardMissing


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@actor_option
@json_option
def restored_command(*, yes: bool, actor: str, as_json: bool) -> None:
    """Make a database that came out of a backup safe to run on. Stop every replica first.

    Messages that wait are held for a person, since they may have been sent after the backup. Tokens and leases are forgotten. The
    change feed begins a new epoch: its readers are told to begin again. The triggers that guard the ledger are set as they
    were. As the owner of the schema; connect to Postgres itself, not through a pooler.

    \b
    Example:  pos-sync restored
    """
    if not yes:
        click.confirm("Does this database come out of a backup, and is every replica stopped?", abort=True, err=True)

    async def work(connection: AsyncConnection) -> Restored:
        fault = (await read_schema_state(connection)).fault
        if fault is not None:
            raise click.ClickException(fault)
        return await begin_anew(connection, actor=actor)

    try:
        # It waits for sessions that hold what it changes, and reads every message that waits.
        with progress("Holding messages, and setting the guards"):
            done = in_transaction(work)
    except GuardMissing as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        show_json(document_of(done))
        return
    click.echo(f"Messages held: {done.messages}" + (". Look at them: pos-sync outbox list" if done.messages else ""))
    click.echo(f"Forgotten: {done.tokens} tokens, {done.leases} leases")
    click.echo("The change feed begins a new epoch.")
    click.echo(f"Guards of the ledger: {'set again: ' + ', '.join(done.guards) if done.guards else 'as they must be'}")
