import json
from typing import Any

import pytest

from app import errors
from app.errors import requests


def every_subclass(kind: type[Any]) -> list[type[Any]]:
    return [found for sub in kind.__subclasses__() for found in [sub, *every_subclass(sub)]]


EXAMPLES = [
    errors.InternalError(),
    requests.NotHttp(),
    requests.HeadTooLarge(65536),
    requests.TooManyConnections(),
    requests.NotSigned(),
    requests.BodyTooLarge(65536),
    requests.SlowBody(),
    requests.WrongMediaType("The request body is compressed."),
    requests.NotAuthorized(),
    requests.KeyOfAnotherStore(),
    requests.NoIdempotencyKey(),
    requests.InvalidIdempotencyKey("must be 1 to 255 visible ASCII characters"),
    requests.IdempotencyKeyReused("ticket 7"),
    requests.NoSuchPage(),
    requests.WrongMethod(),
    requests.NoSuchStore("7"),
    requests.CursorOfAnOlderEpoch(),
    requests.NotReadable(),
    requests.ReadStopped(),
    errors.NotParseable("it is empty"),
    errors.InvalidField("quantity", "is missing"),
    errors.UnstorableValue(),
    errors.OtherPos("7"),
    errors.UnknownStore("7"),
    errors.UnknownItem("\ud800" + "x" * 300),
    errors.NoIntegration(store_id="1", inventory_system_id="x"),
    errors.IntegrationDisabled(store_id="1", inventory_system_id="x"),
    errors.BelowZero(item_id="a", store_id="1", level="1", quantity="2"),
    errors.BeyondRange(item_id="a", store_id="1"),
    errors.UnitUnclear(item_id="a", store_id="1"),
    errors.UnitDiffers(item_id="a", store_id="1", other_store_id="2", units="KG (kg) and G (g)"),
    errors.CountInFuture(item_id="a", counted_at="2099-01-01T00:00:00+00:00"),
    errors.CountTooOld(item_id="a", counted_at="2020-01-01T00:00:00+00:00"),
    errors.PutAside("ana"),
    errors.UnknownRow(item_id="a", store_id="1", level_version=2),
    errors.NotReversible(2),
    errors.DatabaseAway(),
    errors.DatabaseNotSetUp(),
    errors.OutcomeUnknown(),
    errors.Overloaded(),
    errors.ShuttingDown(),
    requests.UnknownPing(),
    requests.NoSuchItem("tom001", "7"),
    requests.CannotSync("Store 1 has no integration. Connect it first."),
    requests.NoStoreToSync("7"),
    requests.SyncUnderWay(store_id="1", inventory_system_id="x"),
    requests.UnsendableCatalog("1", ["The catalogue has no items."] * 2),
]


def test_every_error_has_an_example_here() -> None:
    abstract = {errors.Refusal, errors.BusinessRefusal, errors.TryAgain}
    named = {kind for kind in every_subclass(errors.PosSyncError) if kind.__module__.startswith("app.errors")}

    assert named - abstract == {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_is_json_with_a_message_and_a_status_for_senders(error: errors.PosSyncError) -> None:
    status, headers, body = errors.render(error)
    sent = dict(headers)

    assert 400 <= status <= 503
    assert str(len(body)).encode() == sent[b"content-length"]
    assert b"application/json" == sent[b"content-type"]
    message = json.loads(body)["message"]
    assert message.endswith(".")
    assert len(message) < 300
    assert (status == 503) == (b"retry-after" in sent)


def test_every_reason_is_of_one_error() -> None:
    reasons = [example.reason for example in EXAMPLES]

    assert len(set(reasons)) == len(reasons)
