"""Seals: which row was changed is named, and what is kept elsewhere tells what the database alone cannot."""

import asyncio
import base64
import json
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.operator.seal import Sealer
from app.stock.seal import FIELDS, LEAF_BYTES, encode, leaf_of, root_of
from tests.conftest import running, settings_for
from tests.support.commands import Run, runner_for
from tests.support.outbox import sell, until
from tests.support.sender import SECRET
from tests.support.world import World


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Commands in `world`, which have the client secret too."""
    it = runner_for(world.service_url, monkeypatch, tmp_path)
    monkeypatch.setenv("MIPOS_CLIENT_SECRET", SECRET)
    return it


async def test_a_row_that_was_changed_deleted_or_sealed_anew_is_named(world: World, run: Run, tmp_path: Path) -> None:
    for number in range(5):
        await sell(world, "0.1", str(number))
    sealed = await run("seal", "now")
    exported = await run("seal", "export")
    (tmp_path / "kept.json").write_text(exported.stdout)
    well = await run("seal", "verify", "--against", str(tmp_path / "kept.json"))
    await sell(world, "0.1", "later")
    paper = await run("seal", "export", "--paper")
    assert 0 == (await run("seal", "now")).exit_code

    change = "UPDATE pos_sync.stock_movement SET note = 'nothing happened' WHERE item_id = 'avcc123' AND level_version = 3"
    await world.execute_past_guards(change)
    altered = await run("seal", "verify", "--json")
    # The owner of the database seals all of it again.
    await world.execute(
        "ALTER TABLE pos_sync.seal_checkpoint DISABLE TRIGGER USER", "TRUNCATE pos_sync.seal_checkpoint, pos_sync.seal_level"
    )
    assert 0 == (await run("seal", "now")).exit_code
    hidden = await run("seal", "verify")
    found = await run("seal", "verify", "--against", str(tmp_path / "kept.json"))

    assert (0, 0, 0) == (sealed.exit_code, exported.exit_code, well.exit_code), well.output
    assert "store 1, checkpoint 1" in paper.stdout
    (finding,) = json.loads(altered.stdout)["findings"]
    assert ("1", "avcc123", 3) == (finding["store"], finding["item"], finding["version"])
    assert (1, 0, 1) == (altered.exit_code, hidden.exit_code, found.exit_code)
    assert "sealed again" in found.output


async def test_a_missing_row_and_a_database_that_ends_too_early(world: World, run: Run, tmp_path: Path) -> None:
    await sell(world, "1", "a")
    await run("seal", "now")
    await world.execute_past_guards("DELETE FROM pos_sync.stock_movement WHERE item_id = 'avcc123' AND level_version = 2")
    missing = await run("seal", "verify")
    (checkpoint, *others) = json.loads((await run("seal", "export")).stdout)
    (tmp_path / "kept.json").write_text(json.dumps([{**checkpoint, "checkpoint": 7}, *others]))
    shorter = await run("seal", "verify", "--against", str(tmp_path / "kept.json"))
    (tmp_path / "kept.json").write_text('{"store": 1}')
    unreadable = await run("seal", "verify", "--against", str(tmp_path / "kept.json"))

    assert "Store 1: item avcc123, ledger row 2, is missing." in missing.output
    assert "was it restored from an older backup?" in shorter.output
    assert (1, 1, 2) == (missing.exit_code, shorter.exit_code, unreadable.exit_code)


async def test_checkpoints_are_never_changed_and_their_chain_is_held(world: World, run: Run) -> None:
    for number in range(3):
        await sell(world, "1", str(number))
        await run("seal", "now")
    for statement in ("UPDATE pos_sync.seal_checkpoint SET number = 9", "DELETE FROM pos_sync.seal_checkpoint"):
        with pytest.raises(Exception, match=r"never changed or deleted|permission denied"):
            await world.execute(statement)
    await world.execute(
        "ALTER TABLE pos_sync.seal_checkpoint DISABLE TRIGGER USER",
        "DELETE FROM pos_sync.seal_checkpoint WHERE store_id = '1' AND number = 2",
    )
    gap = await run("seal", "verify")

    assert "checkpoint 3: checkpoint 2 is missing" in gap.output


async def test_signatures(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography", reason="the extra 'signing' is not installed")
    made = (await run("seal", "key")).stdout
    seed, public = made.splitlines()[0].partition("=")[2], made.splitlines()[1].removeprefix("public key: ")
    await sell(world, "1", "a")
    await run("seal", "now")
    unsigned = await run("seal", "verify", "--public-key", public)
    await world.execute(
        "ALTER TABLE pos_sync.seal_checkpoint DISABLE TRIGGER USER", "TRUNCATE pos_sync.seal_checkpoint, pos_sync.seal_level"
    )
    monkeypatch.setenv("SEAL_SIGNING_KEY", seed)
    await run("seal", "now")
    signed = await run("seal", "verify", "--public-key", public)
    other = await run("seal", "verify", "--public-key", base64.b64encode(bytes(32)).decode())

    assert "is not signed by this key" in unsigned.output
    assert (1, 0, 1) == (unsigned.exit_code, signed.exit_code, other.exit_code), signed.output


async def test_without_the_library_a_command_that_needs_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    await run("seal", "now")
    monkeypatch.setitem(sys.modules, "cryptography", None)

    for arguments in (["key"], ["verify", "--public-key", base64.b64encode(bytes(32)).decode()]):
        ended = await run("seal", *arguments)
        assert (1, True) == (ended.exit_code, "pip install 'mipos-pos-sync[signing]'" in ended.output), ended.output


async def test_the_service_seals_in_the_background(world: World) -> None:
    await sell(world, "1", "a")
    async with running(settings_for(world, seal_every=1 / 600)):

        async def is_sealed() -> bool:
            return bool(await world.scalar("SELECT count(*) FROM pos_sync.seal_checkpoint WHERE store_id = '1'"))

        await until(is_sealed)
    before = await world.scalar("SELECT max(number) FROM pos_sync.seal_checkpoint WHERE store_id = '1'")
    await sell(world, "1", "b")
    # Two at once: one of them has the lease.
    await world.execute("DELETE FROM pos_sync.lease WHERE name = 'seal'")
    await asyncio.gather(*(Sealer(world.engine, every=timedelta(minutes=1), key=None)._turn() for _ in range(2)))  # noqa: SLF001
    assert before + 1 == await world.scalar("SELECT max(number) FROM pos_sync.seal_checkpoint WHERE store_id = '1'")


async def test_what_the_service_seals_in_the_background_is_signed_by_its_key(world: World, run: Run) -> None:
    pytest.importorskip("cryptography", reason="the extra 'signing' is not installed")
    key, other = [json.loads((await run("seal", "key", "--json")).stdout) for _ in range(2)]
    await sell(world, "1", "a")
    async with running(settings_for(world, seal_every=1 / 600, seal_signing_key=key["seal_signing_key"])):

        async def is_sealed() -> bool:
            return bool(await world.scalar("SELECT count(*) FROM pos_sync.seal_checkpoint WHERE store_id = '1'"))

        await until(is_sealed)
    signed, by_another = [await run("seal", "verify", "--store", "1", "--public-key", one["public_key"]) for one in (key, other)]

    # The opening stock of three items, and the sale.
    assert 0 == signed.exit_code, signed.output
    assert "Verified: 4 rows" in signed.output
    assert 1 == by_another.exit_code
    assert "checkpoint 1: it is not signed by this key" in by_another.output


VALUES = st.none() | st.text() | st.integers() | st.binary()


@given(st.lists(VALUES, min_size=1), st.lists(VALUES, min_size=1))
def test_no_two_rows_have_the_same_bytes(one: list[object], two: list[object]) -> None:
    def told(values: list[object]) -> list[str | None]:
        return [None if value is None else value.hex() if isinstance(value, bytes) else str(value) for value in values]

    assert (told(one) == told(two)) == (b"".join(map(encode, one)) == b"".join(map(encode, two)))


@given(st.lists(st.binary(min_size=LEAF_BYTES, max_size=LEAF_BYTES), min_size=1, max_size=40), st.data())
def test_any_changed_leaf_changes_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves]
    changed[place] = bytes([changed[place][0] ^ 1]) + changed[place][1:]

    assert root_of(leaves) != root_of(changed)
    assert root_of(leaves) != root_of([*leaves, leaves[-1]])


def test_the_form_is_the_documented_one() -> None:
    """Written down once: another result would make every ledger look altered."""
    row = dict.fromkeys(FIELDS) | {
        "store_id": "1",
        "item_id": "ñ",
        "level_version": 2,
        "quantity": Decimal("1.2500"),
        "received_at": datetime(2026, 11, 30, 12, 0, 0, 5, tzinfo=UTC),
        "dedupe_key": b"\x00\xff",
    }

    assert "7eb50c41bb762ff797f31aaa7dfc26a3" == leaf_of(row).hex()
