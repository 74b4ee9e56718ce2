"""Ed25519 keys that sign checkpoints: the extra `signing` brings the library."""

from importlib.util import find_spec

from app.setting_values import seal_seed
from app.settings import Settings


class SigningNotInstalled(Exception):
    """The extra `signing` is not installed; the message says what to do."""

    def __init__(self) -> None:
        super().__init__("Signing needs the extra 'signing': pip install 'mipos-pos-sync[signing]'")


class SealKey:
    """A private key."""

    def __init__(self, seed: bytes) -> None:
        if find_spec("cryptography") is None:
            raise SigningNotInstalled
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
    """Whether `signature` is of the key whose public half this is."""
    if find_spec("cryptography") is None:
        raise SigningNotInstalled
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
    """The key of these settings; None where none is set.

    Raises:
        SigningNotInstalled: one is set, and cannot be used.
    """
    if settings.seal_signing_key is None:
        return None
    seed = seal_seed(settings.seal_signing_key)
    assert seed is not None
    return SealKey(seed)
