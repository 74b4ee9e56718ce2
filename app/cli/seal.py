"""`pos-sync seal now`, `verify`, `export` and `key`."""

import base64
import json
import secrets
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import with_database
from app.cli.group import CommandGroup
from app.cli.options import json_option, store_option
from app.cli.output import InputRefused, show_json
from app.cli.progress import progress
from app.cli.subjects import require_known
from app.extras import ExtraNotInstalled
from app.operator import seal
from app.operator.seal import Kept, Verified
from app.operator.seal_key import SealKey, seal_key_of
from app.setting_values import SEED_BYTES, seal_seed
from app.settings import load_database_settings, load_settings
from app.stock.seal import Checkpoint
from app.stock.text import number_of
from app.visible_text import as_seen

_PUBLIC = "A public key in base64 (pos-sync seal key): each checkpoint has to be signed by it."


@click.group(cls=CommandGroup)
def command() -> None:
    """Seal the ledger, and find out whether a row was changed since.

    The service seals new rows every SEAL_EVERY minutes. Keep what `export` prints somewhere else, such as on paper. Who can
    change the database can seal it again: only a checkpoint that is kept elsewhere shows that.

    \b
    Example:  pos-sync seal verify
    """


@command.command("now")
@json_option
def now_command(*, as_json: bool) -> None:
    """Seal every row that is not sealed yet.

    \b
    Example:  pos-sync seal now
    """
    settings = load_settings()

    async def work(engine: AsyncEngine) -> int:
        with progress("Sealing") as line:
            return await seal.seal_all(engine, key, max_share=1, on_rows=lambda rows: line.update(done=rows))

    key = seal_key_of(settings)
    rows = with_database(settings, work)
    if as_json:
        show_json({"rows": rows})
    else:
        click.echo(f"Sealed: {number_of(rows, 'row')}.")


@command.command("verify")
@store_option
@click.option("--against", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file of `pos-sync seal export`.")
@click.option("--public-key", metavar="KEY", help=_PUBLIC)
@json_option
def verify_command(*, store_id: str | None, against: Path | None, public_key: str | None, as_json: bool) -> None:
    """Compare every sealed row with its seal, and name the first that was changed in each store. Ends with 1 where one was.

    \b
    Example:  pos-sync seal verify --against checkpoints-of-june.json
    """
    kept = [] if against is None else _read(against)
    key = None if public_key is None else seal_seed(SecretStr(public_key))
    if public_key is not None and key is None:
        raise click.BadParameter(f"is not {SEED_BYTES} bytes in base64.", param_hint="--public-key")

    async def work(engine: AsyncEngine) -> Verified:
        async with engine.connect() as connection:
            await require_known(connection, store_id=store_id)
        with progress("Verifying") as line:
            return await seal.verify(
                engine, store_id=store_id, kept=kept, public_key=key, on_rows=lambda rows: line.update(done=rows)
            )

    try:
        verified = with_database(load_database_settings(), work)
    except ExtraNotInstalled as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        findings = [
            {
                "store": one.store_id,
                "words": one.words,
                "checkpoint": one.number,
                "item": one.item_id,
                "version": one.level_version,
            }
            for one in verified.findings
        ]
        show_json({"checkpoints": verified.checkpoints, "rows": verified.rows, "findings": findings})
    else:
        click.echo(f"Verified: {number_of(verified.rows, 'row')} in {number_of(verified.checkpoints, 'checkpoint')}.")
        for one in verified.findings:
            row = f"item {one.item_id}, ledger row {one.level_version}, " if one.item_id is not None else ""
            click.echo(as_seen(f"Store {one.store_id}: {row}{one.words}."), err=True)
    sys.exit(1 if verified.findings else 0)


@command.command("export")
@click.option("--paper", "is_for_paper", is_flag=True, help="Short lines for a printer, instead of JSON.")
def export_command(*, is_for_paper: bool) -> None:
    """Print the newest checkpoint of each store. It stands for all sealed rows before it.

    \b
    Example:  pos-sync seal export > checkpoints.json
    """
    found = with_database(load_database_settings(), seal.newest)
    if not is_for_paper:
        show_json([_document(one) for one in found])
        return
    for one in found:
        digest = one.digest.hex()
        contents = one.contents
        click.echo(f"store {contents.store_id}, checkpoint {contents.number}, {contents.sealed_at:%Y-%m-%d %H:%M:%S} UTC")
        click.echo(f"  {' '.join(digest[start : start + 8] for start in range(0, len(digest), 8))}")


@command.command("key")
@json_option
def key_command(*, as_json: bool) -> None:
    """Make a new signing key, and print it with its public half. Keep the first secret (SEAL_SIGNING_KEY).

    \b
    Example:  pos-sync seal key
    """
    seed = secrets.token_bytes(SEED_BYTES)
    try:
        public = SealKey(seed).public
    except ExtraNotInstalled as error:
        raise click.ClickException(str(error)) from error
    made = {"seal_signing_key": base64.b64encode(seed).decode(), "public_key": base64.b64encode(public).decode()}
    if as_json:
        show_json(made)
        return
    click.echo(f"SEAL_SIGNING_KEY={made['seal_signing_key']}")
    click.echo(f"public key: {made['public_key']}")


def _document(one: Checkpoint) -> dict[str, Any]:
    return {
        "store": one.contents.store_id,
        "checkpoint": one.contents.number,
        "sealed_at": one.contents.sealed_at.isoformat(),
        "rows": one.contents.rows,
        "digest": one.digest.hex(),
        "signature": None if one.signature is None else base64.b64encode(one.signature).decode(),
    }


def _read(file: Path) -> list[Kept]:
    try:
        return [
            Kept(
                str(one["store"]),
                int(one["checkpoint"]),
                bytes.fromhex(one["digest"]),
                int(one["rows"]),
                datetime.fromisoformat(one["sealed_at"]),
            )
            for one in json.loads(file.read_bytes())
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise InputRefused(f"{file} is no file of `pos-sync seal export`.") from error
