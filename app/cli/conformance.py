"""`pos-sync conformance`: test any receiver of type 3."""

import os
import sys
from collections import Counter
from pathlib import Path

import click

from app.cli.output import show_json
from app.cli.sandbox import CLIENT_SECRET
from app.conformance.cases import Result, Verdict, run
from app.conformance.client import UnusableAddress, address_of
from app.conformance.stock import OUR_FIELD, OUR_PATH, ReadStock, StockNotRead, stock_by_command, stock_by_url
from app.conformance.vectors import EXAMPLE_VALUES, Case, packaged, read_cases
from app.visible_text import as_seen

AUTHORIZATION = "CONFORMANCE_STOCK_AUTHORIZATION"
_COLOURS = {Verdict.PASSED: "green", Verdict.ADVISED: "yellow", Verdict.FAILED: "red"}


@click.command()
@click.argument("url", required=False)
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="A file with the client secret; - is standard input. [default: the variable MIPOS_CLIENT_SECRET]",
)
@click.option("--secret", help="The client secret itself. Other users of this machine see it.")
@click.option("--pos-id", "pos", default=EXAMPLE_VALUES["pos"], show_default=True, help="The POS.")
@click.option("--store", default=EXAMPLE_VALUES["store"], show_default=True, help="A store that the receiver knows.")
@click.option("--item", default=EXAMPLE_VALUES["item"], show_default=True, help="An item of it, best one for tests only.")
@click.option(
    "--system", default=EXAMPLE_VALUES["system"], show_default=True, help="An inventory system that is connected with it."
)
@click.option("--pos-api", metavar="URL", help="Read the stock from this service's own API there; the key is POS_API_KEY.")
@click.option("--stock-url", metavar="TEMPLATE", help="Read the stock there; {store} and {item} become the ids.")
@click.option("--stock-field", help="With --stock-url: where the number is in the JSON, such as stock.0.quantity.")
@click.option("--stock-command", metavar="COMMAND", help="Read the stock by a command that prints it; STORE and ITEM are set.")
@click.option("--case", "names", multiple=True, help="Only this case, or those that begin so. Repeatable.")
@click.option("--exact", "is_exact", is_flag=True, help="A refusal must have the very status with which this service answers.")
@click.option("--vectors", "only_vectors", is_flag=True, help="Print the vectors as JSON, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(  # noqa: PLR0913 - one parameter per option
    *,
    url: str | None,
    secret: str | None,
    secret_file: Path | None,
    pos: str,
    store: str,
    item: str,
    system: str,
    pos_api: str | None,
    stock_url: str | None,
    stock_field: str | None,
    stock_command: str | None,
    names: tuple[str, ...],
    is_exact: bool,
    only_vectors: bool,
    as_json: bool,
) -> None:
    """Test any receiver of the mipOS stock webhook (type 3): what it answers and, if the stock can be read, what it does.

    It sends real movements, signed with the client secret (MIPOS_CLIENT_SECRET). A receiver that conforms ends with the stock
    with which it began. Use an item for tests, or a receiver for tests: while this runs, nobody else may move that item. Ends
    with status 1 if a required case fails. docs/conformance/README.md explains the vectors.

    \b
    Example:  pos-sync conformance https://pos.example.com/webhooks/stock --secret-file secret.txt --item test-item
    """
    if only_vectors:
        click.echo(packaged(), nl=False)
        return
    if url is None:
        raise click.UsageError("Name the URL of the receiver, such as http://127.0.0.1:8080/webhooks/stock.")
    try:
        address = address_of(url)
    except UnusableAddress:
        raise click.BadParameter("is not an address such as http://127.0.0.1:8080/webhooks/stock.", param_hint="URL") from None
    values = {"pos": pos, "store": store, "item": item, "system": system}
    cases = _chosen(names)
    key = _secret(secret, secret_file)
    read_stock = _stock(values, pos_api=pos_api, url=stock_url, field=stock_field, by_command=stock_command)
    results: list[Result] = []
    try:
        for result in run(cases, address, secret=key, names=values, read_stock=read_stock, is_exact=is_exact):
            results.append(result)
            if not as_json:
                _show(result)
            if len(results) == 1 and result.verdict is Verdict.FAILED and result.case.name == "applies":
                # What all others build on: without it, they would fail for a reason that is none of theirs.
                break
    except StockNotRead as error:
        raise click.ClickException(f"{error}. Look for movements of {item} that were applied and not taken back.") from error
    if as_json:
        show_json([_document(result) for result in results])
    else:
        _show_sum(results, len(cases), has_stock=read_stock is not None)
    sys.exit(1 if any(result.verdict is Verdict.FAILED for result in results) else 0)


def _chosen(names: tuple[str, ...]) -> list[Case]:
    cases = read_cases(packaged())
    chosen = [case for case in cases if not names or case.name.startswith(names)]
    if not chosen:
        raise click.BadParameter(f"There is none. There are: {', '.join(case.name for case in cases)}", param_hint="--case")
    return chosen


def _secret(given: str | None, file: Path | None) -> bytes:
    if given is not None and file is not None:
        raise click.UsageError("Give --secret or --secret-file, not both.")
    if given is not None:
        click.echo(
            "The secret stood on the command line, where every user of this machine sees it (ps), and the shell keeps it. "
            f"Set {CLIENT_SECRET}, or use --secret-file; and replace this secret if it is a real one.",
            err=True,
        )
        return given.encode()
    if file is not None:
        with click.open_file(str(file), "rb") as source:
            content: bytes = source.read().strip()
    else:
        content = os.environ.get(CLIENT_SECRET, "").strip().encode()
    if not content:
        raise click.UsageError(f"Set {CLIENT_SECRET}, or use --secret-file: the key with which the deliveries are signed.")
    return content


def _stock(
    names: dict[str, str], *, pos_api: str | None, url: str | None, field: str | None, by_command: str | None
) -> ReadStock | None:
    if sum(way is not None for way in (pos_api, url, by_command)) > 1:
        raise click.UsageError("Name one of --pos-api, --stock-url and --stock-command.")
    if by_command is not None:
        return stock_by_command(by_command, names)
    if pos_api is not None:
        key = os.environ.get("POS_API_KEY")
        if not key:
            raise click.UsageError("Set the variable POS_API_KEY: the key with which --pos-api reads the stock.")
        return stock_by_url(pos_api.rstrip("/") + OUR_PATH, names, field=OUR_FIELD, authorization=f"Bearer {key}")
    if url is not None:
        return stock_by_url(url, names, field=field, authorization=os.environ.get(AUTHORIZATION))
    return None


def _show(result: Result) -> None:
    verdict = click.style(f"{result.verdict.value:<8}", fg=_COLOURS[result.verdict])
    click.echo(f"{verdict} {result.case.name}")
    if result.problems:
        click.echo(f"         {result.case.about}")
    for problem in dict.fromkeys(result.problems):
        click.echo(f"         - {as_seen(problem)}")


def _show_sum(results: list[Result], asked: int, *, has_stock: bool) -> None:
    counts = Counter(result.verdict for result in results)
    click.echo(", ".join(f"{verdict.value}: {counts[verdict]}" for verdict in Verdict if counts[verdict]))
    if len(results) < asked:
        click.echo(
            "The others were left out: not even a plain movement is applied. Look at the URL, the secret, and whether --pos-id, "
            "--store, --item and --system name what the receiver knows."
        )
    if not has_stock:
        click.echo("Only the answers were looked at. With --pos-api, --stock-url or --stock-command the stock is compared too.")


def _document(result: Result) -> dict[str, object]:
    return {
        "case": result.case.name,
        "about": result.case.about,
        "required": result.case.is_required,
        "verdict": result.verdict.value,
        "problems": list(result.problems),
        "effect_checked": result.has_effect_checked,
    }
