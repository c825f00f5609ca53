import base64

import pytest

from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.signing.notes import parse_note, sign_note

# The signed note of Go's golang.org/x/mod/sumdb/note documentation.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FF"
    "YC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_the_published_note_of_gos_sumdb_verifies_and_encodes_back() -> None:
    note = parse_note(GO_NOTE)
    note.verify(VerifyingKey.parse(GO_VKEY))
    assert note.encode() == GO_NOTE


def test_every_flipped_byte_of_a_note_is_noticed() -> None:
    key, data = VerifyingKey.parse(GO_VKEY), GO_NOTE.encode()
    for position in range(len(data)):
        altered = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(IntegrityError):
            parse_note(altered).verify(key)


def test_signatures_of_unknown_keys_are_ignored_so_that_keys_can_rotate() -> None:
    old, new, stranger = (SigningKey.generate("log") for _ in range(3))
    note = parse_note(sign_note("text\n", [old, new]).encode())
    note.verify(old.verifying_key)
    note.verify(new.verifying_key)
    with pytest.raises(IntegrityError, match="signature_missing"):
        note.verify(stranger.verifying_key)


def test_base64_with_spare_bits_is_rejected() -> None:
    line = GO_NOTE.rstrip("\n")
    respelled = line[:-2] + "N" + line[-1] + "\n"
    one, other = (text.rsplit(" ", 1)[1].strip() for text in (GO_NOTE, respelled))
    assert one != other
    assert base64.b64decode(one) == base64.b64decode(other)
    with pytest.raises(IntegrityError, match="canonical base64"):
        parse_note(respelled)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— name\n",
        "text\n\n- name AAAAAAAA\n",
        "text\n\n— name AAAAAAAA",
        "text\n\n— name AAAA\n",
        "te\txt\n\n— name AAAAAAAA\n",
        "text\n\n— name AAAAAAAA\n\ntail\n",
        b"\xff\n\n\xe2\x80\x94 name AAAAAAAA\n",
        "text\n\n" + "— name AAAAAAAA\n" * 101,
    ],
)
def test_what_is_not_a_note_is_rejected(data: str | bytes) -> None:
    with pytest.raises(IntegrityError, match="malformed_note"):
        parse_note(data)
