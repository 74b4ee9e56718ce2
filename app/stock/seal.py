"""What seals are made of. Pure: rows in, digests out; anybody can write it again from docs/seals.md.

A row is encoded field by field, each with its length, so that no two rows have the same bytes. Its leaf is the first 16 bytes
of the SHA-256 of that. A checkpoint seals new rows of one store: their leaves make a Merkle tree, and its root is chained to the
checkpoint before.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from app.stock.quantity import to_canonical

LEAF_BYTES = 16
VERSION = b"pos_sync ledger row 1"
CHAIN_VERSION = b"pos_sync checkpoint 1"
FIELDS = (
    "store_id",
    "item_id",
    "level_version",
    "source",
    "inventory_system_id",
    "movement_type",
    "quantity",
    "balance_after",
    "reported_stock",
    "date_text",
    "sent_at_text",
    "dedupe_key",
    "occurrence",
    "received_at",
    "actor",
    "note",
    "happened_at",
    "reason",
    "reference",
    "counted",
    "other_store_id",
    "refers_to",
)
"""The columns of a ledger row that are sealed, in this order. Another order, or one more, is another version."""
START = bytes(32)
"""What the first checkpoint of a store is chained to"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode(value: object) -> bytes:
    """One value: `-` where there is none, else its length (4 bytes, the highest first) and its text in UTF-8.

    Numbers have no zeros at their end, times are whole microseconds since 1970 (UTC), bytes are hexadecimal.
    """
    match value:
        case None:
            return b"-"
        case datetime():
            age = value - _EPOCH
            text = str((age.days * 86_400 + age.seconds) * 1_000_000 + age.microseconds)
        case Decimal():
            text = to_canonical(value)
        case bytes():
            text = value.hex()
        case _:
            text = str(value)
    encoded = text.encode("utf-8")
    return len(encoded).to_bytes(4, "big") + encoded


def leaf_of(row: Mapping[str, object]) -> bytes:
    """The 16 bytes that stand for a ledger row."""
    digest = hashlib.sha256(VERSION)
    for name in FIELDS:
        digest.update(encode(row[name]))
    return digest.digest()[:LEAF_BYTES]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The Merkle root, as RFC 6962 has it: leaves and nodes are told apart, and an odd one out rises as it is.

    Raises:
        ValueError: there is no leaf.
    """
    if not leaves:
        raise ValueError("there is nothing to seal")
    nodes = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    while len(nodes) > 1:
        pairs = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=False)]
        nodes = [*pairs, nodes[-1]] if len(nodes) % 2 else pairs
    return nodes[0]


@dataclass(frozen=True, slots=True)
class Span:
    """So many rows of one item, from this version of its level on."""

    item_id: str
    first_version: int
    count: int


@dataclass(frozen=True, slots=True)
class Contents:
    """Which rows of a store a checkpoint seals, and when it did."""

    store_id: str
    number: int
    sealed_at: datetime
    spans: tuple[Span, ...]

    @property
    def rows(self) -> int:
        """How many rows these are."""
        return sum(span.count for span in self.spans)

    def digest_of(self, root: bytes, previous: bytes) -> bytes:
        """The digest over what is sealed, and the digest of the checkpoint before."""
        digest = hashlib.sha256(CHAIN_VERSION)
        for value in (self.store_id, self.number, self.sealed_at, root, previous):
            digest.update(encode(value))
        for span in self.spans:
            for value in (span.item_id, span.first_version, span.count):
                digest.update(encode(value))
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint of a store. `digest` stands for it, all its rows, and all checkpoints before it."""

    contents: Contents
    leaves: tuple[bytes, ...]
    root: bytes
    digest: bytes
    signature: bytes | None = None


def seal(contents: Contents, leaves: Sequence[bytes], previous: bytes) -> Checkpoint:
    """A new checkpoint after the one with the digest `previous`."""
    root = root_of(leaves)
    return Checkpoint(contents, tuple(leaves), root, contents.digest_of(root, previous))


def fault_in_chain(checkpoint: Checkpoint, previous: bytes) -> str | None:
    """What is wrong with a checkpoint by itself and with its place in the chain; None where nothing is."""
    if len(checkpoint.leaves) != checkpoint.contents.rows:
        return "it has another number of leaves than rows"
    if root_of(checkpoint.leaves) != checkpoint.root:
        return "its leaves do not make its root"
    made = checkpoint.contents.digest_of(checkpoint.root, previous)
    return None if made == checkpoint.digest else "it does not follow from the one before it"
