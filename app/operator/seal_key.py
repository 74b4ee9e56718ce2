"""Ed25519 keys that sign checkpoints: the extra `signing` brings the library."""

from app import extras
from app.setting_values import seal_seed
from app.settings import Settings


class SealKey:
    """A private key.

    Raises:
        ExtraNotInstalled: nothing can sign here.
    """

    def __init__(self, seed: bytes) -> None:
        extras.require("signing", needed_by="Signing")
        # Here and not above: an installation without the extra has no such module.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    def sign(self, digest: bytes) -> bytes:
        """The signature of a checkpoint's digest."""
        return self._key.sign(digest)

    @property
    def public(self) -> bytes:
        """What a verifier needs."""
        return self._key.public_key().public_bytes_raw()


def is_signed_by(public_key: bytes, digest: bytes, signature: bytes | None) -> bool:
    """Whether `signature` is of the key whose public half this is.

    Raises:
        ExtraNotInstalled: nothing can tell here.
    """
    extras.require("signing", needed_by="Verifying a signature")
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    if signature is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, digest)
    except (InvalidSignature, ValueError):
        return False
    return True


def seal_key_of(settings: Settings) -> SealKey | None:
    """The key of these settings, which refuse one that cannot be used; None where none is set."""
    if settings.seal_signing_key is None:
        return None
    seed = seal_seed(settings.seal_signing_key)
    assert seed is not None
    return SealKey(seed)
