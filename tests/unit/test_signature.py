import pytest

from app.receiving.mipos_sender import DOCUMENTED_MOVEMENT, php_json
from app.receiving.signature import Key, sign, verify

KNOWN_SECRET = b"08b707f3fa62d18df7dd5a12b5d169a22f372c25"
KNOWN_BODY = (
    rb'{"origin":{"address":"Av. Las Aguas 1256","reference":"Cerca del centro comercial ....","lat":-2.1602453,'
    rb'"lng":-79.908075,"contact_phone":"0912345678","contact_name":"Gerente tienda Jos\u00e9"},"destination":'
    rb'{"address":"Urbanizaci\u00f3n Ficticia Solar 15","reference":"Cerca del malec\u00f3n ....","lat":-2.1617463,'
    rb'"lng":-79.9017235,"contact_phone":"0987654321","contact_name":"Camila"},"integration_id":8}'
)
KNOWN_SIGNATURE = "c70400564e5440ea76ed1f0241965ff97515cfdfff71b05444f613a5bf43a8dd"
CURRENT = [(Key.CURRENT, KNOWN_SECRET)]


def test_the_known_answer_of_the_mipos_documentation_verifies() -> None:
    assert KNOWN_SIGNATURE == sign(KNOWN_BODY, KNOWN_SECRET)
    assert Key.CURRENT is verify(KNOWN_BODY, KNOWN_SIGNATURE.encode(), CURRENT)


def test_github_s_published_vector_verifies() -> None:
    signature = b"757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

    assert Key.CURRENT is verify(b"Hello, World!", signature, [(Key.CURRENT, b"It's a Secret to Everybody")])


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_the_documented_type_3_example_does_not_verify_as_printed(separators: tuple[str, str]) -> None:
    """The body that the page prints is not the one that was signed; the verifier is not bent to it."""
    printed = b"7c38c67ad234c4cdbe71425b5c961805ac3955d87de40d1d63e09f1f76d1ff61"
    secret = b"9468da7ccaed13055abcf183fb05c73e8cfc48c5"
    body = php_json(DOCUMENTED_MOVEMENT)
    if separators != (",", ":"):
        body = body.replace(b",", b", ").replace(b'":', b'": ')

    assert verify(body, printed, [(Key.CURRENT, secret)]) is None


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        KNOWN_SIGNATURE[:-1].encode(),
        KNOWN_SIGNATURE.encode() + b"0",
        b"sha256=" + KNOWN_SIGNATURE.encode(),
        b" " + KNOWN_SIGNATURE.encode(),
        KNOWN_SIGNATURE.encode() + b"\n",
        b"g" * 64,
        b"\xe9" * 64,
        "٣".encode() * 32,
        b"0" * 64,
        KNOWN_SIGNATURE.encode() + b"," + KNOWN_SIGNATURE.encode(),
    ],
)
def test_whatever_is_malformed_ends_like_a_wrong_signature(signature: bytes) -> None:
    assert verify(KNOWN_BODY, signature, CURRENT) is None


def test_upper_case_hex_is_the_same_signature() -> None:
    assert Key.CURRENT is verify(KNOWN_BODY, KNOWN_SIGNATURE.upper().encode(), CURRENT)


def test_one_changed_byte_does_not_verify() -> None:
    assert verify(KNOWN_BODY.replace(b"Camila", b"camila"), KNOWN_SIGNATURE.encode(), CURRENT) is None


def test_the_previous_secret_verifies_while_it_is_being_replaced() -> None:
    rotating = [(Key.CURRENT, b"the new secret of the account"), (Key.PREVIOUS, KNOWN_SECRET)]

    assert Key.PREVIOUS is verify(KNOWN_BODY, KNOWN_SIGNATURE.encode(), rotating)


def test_without_a_secret_nothing_verifies() -> None:
    assert verify(KNOWN_BODY, sign(KNOWN_BODY, b"").encode(), []) is None


def test_bodies_are_written_as_php_writes_them() -> None:
    assert rb'{"a":"caf\u00e9 \/ 1"}' == php_json({"a": "café / 1"})
