"""Part of `make check`: texts that JSON parsers read differently, at each place of the service that reads JSON.

    python -m tests.contract.json_suite [FOLDER]

FOLDER is `test_parsing` of a checkout of nst/JSONTestSuite; without it the texts are our own. No answer is a 5xx, no movement
comes of a text that is not JSON, none is refused for what JSON allows, each refusal has a message, and afterwards the ledger's
invariants hold.
"""

import asyncio
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import httpx2
from click.testing import CliRunner

from app.cli.program import commands
from tests.conftest import new_world
from tests.support import postgres
from tests.support.catalogs import catalog, item
from tests.support.json_texts import texts_in
from tests.support.mipos import AUTHORIZED, KEY
from tests.support.sender import PATH, body_of, signed
from tests.support.service import environment, serving
from tests.support.world import World

AT_ONCE = 8
MAX_SUCCESS = 299
MIN_FAILURE = 500
MOVEMENTS, REVERSALS = "/pos/stores/1/movements", "/pos/stores/1/reversals"
PLACE = b'"@"'
FURTHER = "a further field of a delivery"
"""Which the service reads and makes nothing of: any JSON may stand there, but for an object with the same key twice."""
SALE = b'{"item_id":"avcc123","kind":"sale","quantity":"0.5"}'
Ask = Callable[[httpx2.AsyncClient, str, bytes], Awaitable[httpx2.Response]]


def webhook(template: bytes = PLACE) -> Ask:
    """A delivery, truly signed, with the text in the place of `PLACE`."""

    async def ask(client: httpx2.AsyncClient, name: str, text: bytes) -> httpx2.Response:
        body = template.replace(b'"#"', json.dumps(name).encode()).replace(PLACE, text)
        return await client.post(PATH, content=body, headers=signed(body))

    return ask


def till(path: str, template: bytes = PLACE) -> Ask:
    """A call of the POS."""

    async def ask(client: httpx2.AsyncClient, name: str, text: bytes) -> httpx2.Response:
        key = {"Idempotency-Key": json.dumps(f"{name} {len(template)}"), "Content-Type": "application/json"}
        return await client.post(path, content=template.replace(PLACE, text), headers={**AUTHORIZED, **key})

    return ask


PLACES: Mapping[str, Ask] = {
    "a delivery": webhook(),
    "a delivery's external_id": webhook(body_of(date="#", external_id="@")),
    "a delivery's quantity": webhook(body_of(date="#", quantity="@")),
    FURTHER: webhook(body_of(date="#", quantity="0.01", note="@")),
    "a movement": till(MOVEMENTS),
    "a movement's item_id": till(MOVEMENTS, SALE.replace(b'"avcc123"', PLACE)),
    "a movement's quantity": till(MOVEMENTS, SALE.replace(b'"0.5"', PLACE)),
    "a reversal": till(REVERSALS),
    "a reversal's level_version": till(REVERSALS, b'{"item_id":"avcc123","level_version":"@","note":"n"}'),
}
CATALOGS = {
    "a catalog": PLACE,
    "an item's stock": catalog(item("json", stock="@")),
}
"""A catalog comes by a command, and by no route."""


async def check(folder: Path | None) -> list[str]:
    """What is wrong, a line each."""
    texts = texts_in(folder)
    async with new_world() as world:
        with serving(world.service_url, pos_api_key=KEY) as service:
            limit = asyncio.Semaphore(AT_ONCE)
            async with httpx2.AsyncClient(base_url=service.url, timeout=60) as client:

                async def ask(place: str, name: str) -> tuple[str, str, httpx2.Response]:
                    async with limit:
                        return place, name, await PLACES[place](client, name, texts[name])

                answers = await asyncio.gather(*(ask(place, name) for place in PLACES for name in texts))
                good = body_of(date="afterwards")
                alive = await client.post(PATH, content=good, headers=signed(good))
            faults = [fault for answer in answers if (fault := fault_of(*answer))]
            faults += [] if alive.status_code == 204 else [f"A good delivery afterwards is answered {alive.status_code}."]
            faults += ["The service has logged a traceback."] if "Traceback" in service.log else []
        faults += await asyncio.to_thread(imported, world, texts)
        faults += [f"Invariant broken: {name}, {rows} rows." for name, rows in (await world.broken_invariants()).items()]
    print(summary(len(texts), answers))
    return faults


def fault_of(place: str, name: str, answer: httpx2.Response) -> str | None:
    """What is wrong with it."""
    where = f"{place}, {name}: {answer.status_code}"
    if answer.status_code >= MIN_FAILURE:
        return f"{where}, a failure of ours"
    if answer.status_code <= MAX_SUCCESS:
        # Within the document a text that is no JSON can never make one that is.
        return f"{where}, though it is no JSON" if name.startswith("n_") else None
    try:
        message = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"{where}, without a message"
    if place == FURTHER and name.startswith("y_") and "occurs twice" not in message:
        return f"{where}, though it is JSON: {message}"
    return None if message else f"{where}, without words"


def imported(world: World, texts: Mapping[str, bytes]) -> list[str]:
    """What is wrong with the command that imports a catalog: it takes each, or refuses it with a sentence."""
    faults = []
    variables = {**dict.fromkeys(os.environ), **environment(DATABASE_URL=world.owner_url)}
    for what, template in CATALOGS.items():
        for name, text in texts.items():
            given = template.replace(PLACE, text)
            ended = CliRunner().invoke(commands, ["catalog", "import", "--store", "json", "-"], given, env=variables)
            if not isinstance(ended.exception, SystemExit | None):
                faults.append(f"{what}, {name}: {ended.exception!r}")
            elif ended.exit_code == 0 and name.startswith("n_"):
                faults.append(f"{what}, {name}: imported, though it is no JSON")
    return faults


def summary(count: int, answers: Iterable[tuple[str, str, httpx2.Response]]) -> str:
    """How many texts, and how often each answer."""
    statuses = Counter(answer.status_code for _, _, answer in answers)
    told = ", ".join(f"{status}: {number}" for status, number in sorted(statuses.items()))
    return f"{count} texts in {len(PLACES) + len(CATALOGS)} places: {told}"


def main(arguments: list[str]) -> int:
    """Run the check on a server of its own."""
    server = postgres.start()
    try:
        faults = asyncio.run(check(Path(arguments[0]) if arguments else None))
    finally:
        if server is not None:
            server.stop()
            shutil.rmtree(server.folder, ignore_errors=True)
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
