import json
from typing import Any

import pytest

from app import errors


def every_subclass(kind: type[Any]) -> list[type[Any]]:
    return [found for sub in kind.__subclasses__() for found in [sub, *every_subclass(sub)]]


EXAMPLES = [
    errors.InternalError(),
    errors.NotSigned(),
    errors.BodyTooLarge(65536),
    errors.SlowBody(),
    errors.WrongMediaType("The request body is compressed."),
    errors.NotAuthorized(),
    errors.NoIdempotencyKey(),
    errors.IdempotencyKeyReused("ticket 7"),
    errors.NoSuchPage(),
    errors.WrongMethod(),
    errors.NoSuchStore("7"),
    errors.NotReadable(),
    errors.ReadStopped(),
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
    errors.DatabaseAway(),
    errors.DatabaseNotSetUp(),
    errors.OutcomeUnknown(),
    errors.Overloaded(),
    errors.ShuttingDown(),
    errors.CannotSync("Store 1 has no integration. Connect it first."),
    errors.NoStoreToSync("7"),
    errors.SyncUnderWay(store_id="1", inventory_system_id="x"),
    errors.UnsendableCatalog("1", ["The catalogue has no items."] * 2),
]


def test_every_error_has_an_example_here() -> None:
    abstract = {errors.Refusal, errors.BusinessRefusal, errors.TryAgain}
    named = {kind for kind in every_subclass(errors.PosSyncError) if kind.__module__.startswith("app.errors.")}

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
