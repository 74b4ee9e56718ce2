"""`pos-sync explain-signature`: what a signature that does not match was made of."""

import sys
from pathlib import Path

import click

from app.cli.capture import UNVERIFIED, read_captured
from app.cli.output import show_json
from app.cli.progress import progress
from app.receiving.client_secrets import exchanged_keys, own_keys
from app.receiving.explanation import Deviation, Explanation, NamedKey, Place, explain
from app.receiving.signature import HEADER
from app.settings import Settings, SettingsRefused, load_settings
from app.visible_text import as_seen

MAX_FILE_BYTES = 1048576
_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
_LIKE_A_SIGNATURE = ("signature", "hmac", "digest")


@click.command()
@click.option("--body", "body_file", type=_FILE, help="A file with the bytes of the body, as they arrived; - is standard input.")
@click.option("--signature", help=f"The value of {HEADER}.")
@click.option("--headers", "headers_file", type=_FILE, help="A file with the headers, one a line, instead of --signature.")
@click.option("--request", "request_file", type=_FILE, help="A file with headers, an empty line, and the body.")
@click.option("--capture", "number", type=int, help="A captured delivery: pos-sync capture list")
@click.option(
    "--secret-file", "secret_files", type=_FILE, multiple=True, help="A file with another secret to try, such as an old one."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def explain_command(  # noqa: PLR0913 - one parameter per option
    *,
    body_file: Path | None,
    signature: str | None,
    headers_file: Path | None,
    request_file: Path | None,
    number: int | None,
    secret_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Say why a signature does not match: what was signed instead, and what to change on which side.

    It tries the usual mistakes with the key, the body and the header, alone and together. It accepts nothing and changes nothing,
    and prints neither a secret nor a digest that it computed. Ends with status 1 if nothing matches.

    \b
    Example:  pos-sync explain-signature --capture 3
    Example:  pos-sync explain-signature --body body.bin --signature 7c38c67a...
    """
    ways = [body_file is not None, request_file is not None, number is not None]
    if sum(ways) != 1 or (body_file is not None) != ((signature is None) != (headers_file is None)):
        raise click.UsageError("Name --capture, or --request, or --body with either --signature or --headers.")
    keys = _keys(_settings(is_needed=number is not None or not secret_files), secret_files)
    if number is not None:
        captured = read_captured(number)
        body, signatures = captured.raw_body, list(captured.signatures)
    elif request_file is not None:
        head, body = _split(_read(request_file))
        signatures = _signatures(head)
    else:
        assert body_file is not None
        body = _read(body_file)
        signatures = [(HEADER, signature)] if signature is not None else _signatures(_read(headers_file or Path("-")))
    with progress("Trying keys, bodies and hashes") as line:
        explanation = explain(body, signatures, keys, on_progress=line.count)
    if as_json:
        show_json(_document(explanation))
    else:
        if number is not None:
            click.echo(UNVERIFIED)
        _show(explanation, number=number)
    sys.exit(0 if explanation.match is not None else 1)


def _settings(*, is_needed: bool) -> Settings | None:
    """The settings; None on a machine without them, where the secrets come from files."""
    try:
        return load_settings()
    except SettingsRefused:
        if is_needed:
            raise
        return None


def _keys(settings: Settings | None, secret_files: tuple[Path, ...]) -> list[NamedKey]:
    keys = [] if settings is None else own_keys(settings)
    for file in secret_files:
        remedy = "Set MIPOS_CLIENT_SECRET to that secret, and MIPOS_CLIENT_SECRET_PREVIOUS to the present one for a while."
        # Both as it is and without the line end that an editor adds.
        content = _read(file)
        deviation = Deviation(f"the key is the secret in {file}", Place.HERE, remedy)
        keys += [NamedKey(str(file), secret, deviation) for secret in dict.fromkeys([content.strip(), content]) if secret]
    return keys + ([] if settings is None else exchanged_keys(settings))


def _read(file: Path) -> bytes:
    with click.open_file(str(file), "rb") as source:
        content: bytes = source.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise click.ClickException(f"{file} is larger than 1 MiB, which no delivery is.")
    return content


def _split(request: bytes) -> tuple[bytes, bytes]:
    """The head and the body: at the first empty line, whichever line ends are used."""
    ends = [(at, len(mark)) for mark in (b"\r\n\r\n", b"\n\n") if (at := request.find(mark)) >= 0]
    if not ends:
        raise click.ClickException("The file of the request has no empty line between the headers and the body.")
    at, length = min(ends)
    return request[:at], request[at + length :]


def _signatures(head: bytes) -> list[tuple[str, str]]:
    """The header of the signature, or where it is missing, those that are named like one."""
    lines = [line.partition(":") for line in head.decode("latin-1").splitlines()]
    headers = [(name.strip(), value.strip()) for name, colon, value in lines if colon and " " not in name.strip()]
    named = [(name, value) for name, value in headers if name.lower() == HEADER.lower()]
    return named or [(name, value) for name, value in headers if any(word in name.lower() for word in _LIKE_A_SIGNATURE)]


def _show(explanation: Explanation, *, number: int | None) -> None:
    for problem in explanation.problems:
        click.echo(as_seen(problem))
    match = explanation.match
    if not explanation.is_signed:
        return
    if match is None:
        click.echo(
            f"Nothing matches. {explanation.combinations} pairs of a key and a body were tried, with every hash of that length:"
        )
        for of, names in explanation.tried.items():
            click.echo(f"  {of}:")
            for name in names:
                click.echo(f"    {name}")
        click.echo(
            "So the secrets differ, or the body is not the one that was signed. Compare the client secret with that of your "
            "mipOS account; try an old one with --secret-file. Look that the file holds the bytes as they arrived: not copied "
            "from a page, and not written again."
        )
    elif not match.deviations:
        click.echo(f"It verifies, with {match.key}: a delivery like this is accepted.")
        if number is not None:
            click.echo(f"So the secret was another one when it came. To apply it: pos-sync capture deliver {number}")
    else:
        click.echo(f"It matches, with {match.key}, if:")
        for deviation in match.deviations:
            click.echo(f"  {as_seen(deviation.name)}")
        click.echo("To change:")
        for place, remedy in dict.fromkeys((deviation.place, deviation.remedy) for deviation in match.deviations):
            click.echo(f"  {place}: {as_seen(remedy)}")
        click.echo("Until then such deliveries are refused. Nothing was accepted.")


def _document(explanation: Explanation) -> dict[str, object]:
    match = explanation.match
    return {
        "matches": match is not None,
        "verifies": match is not None and not match.deviations,
        "key": None if match is None else match.key,
        "deviations": []
        if match is None
        else [{"what": one.name, "where": one.place.value, "remedy": one.remedy} for one in match.deviations],
        "problems": list(explanation.problems),
        "tried": {of: list(names) for of, names in explanation.tried.items()},
        "combinations": explanation.combinations,
    }
