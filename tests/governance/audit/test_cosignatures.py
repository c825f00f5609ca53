"""Cosignatures: the published encodings, what they bind, and what is not one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.audit.cosignatures import WitnessKey, cosign
from neural_trader_governance.errors import ConfigurationError, IntegrityError
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.signing.notes import Note, Signature, parse_note, sign_note

# The example of https://c2sp.org/tlog-cosignature: a checkpoint with a log's signature and a cosignature.
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGz"
    "Gku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1n"
    "PZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
# A verifier key that others' software publishes (transparency-dev/formats, note_cosigv1_test.go).
PUBLISHED_VKEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
LOG_VKEY = "TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6"
TEXT = "desk.example/log\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
SIGNER = SigningKey.generate("witness.example/w1")
KEY = WitnessKey.of(SIGNER)


def cosigned(text: str = TEXT, time_s: int = 1_679_315_147) -> Note:
    return Note(text, (cosign(text, SIGNER, time_s),))


def test_a_published_verifier_key_parses_and_is_spelled_the_same() -> None:
    key = WitnessKey.parse(PUBLISHED_VKEY)
    assert (key.name, key.key_id.hex(), key.vkey) == ("remora.n621.de", "da77ade7", PUBLISHED_VKEY)


def test_the_specifications_example_has_the_layout_that_we_read() -> None:
    line = parse_note(EXAMPLE).signatures[1]
    assert line.name == "witness.example.com/w1"
    assert line.key_id.hex() == "8d66cf3f"
    assert int.from_bytes(line.signature[:8], "big") == 1_679_315_147
    assert len(line.signature) == 8 + 64


@pytest.mark.parametrize(
    "vkey",
    [
        LOG_VKEY,  # a log's key signs another statement
        "remora.n621.de+da77ade8+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
        "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw3",
        "remora.n621.de+da77ade7",
        "",
    ],
)
def test_what_is_no_witness_key_is_refused(vkey: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        WitnessKey.parse(vkey)
    assert caught.value.code == "invalid_witness_vkey"


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_a_cosignature_says_when(time_s: int) -> None:
    assert KEY.verify(parse_note(cosigned(time_s=time_s).encode())) == time_s


@pytest.mark.parametrize("time_s", [0, -1, 2**63])
def test_a_cosignature_without_a_time_is_never_made(time_s: int) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        cosign(TEXT, SIGNER, time_s)


@given(st.integers(min_value=0, max_value=71), st.integers(min_value=0, max_value=7))
def test_every_bit_of_a_cosignature_counts(place: int, bit: int) -> None:
    line = cosigned().signatures[0]
    data = bytearray(line.signature)
    data[place] ^= 1 << bit
    forged = Note(TEXT, (type(line)(line.name, line.key_id, bytes(data)),))
    with pytest.raises(IntegrityError) as caught:
        KEY.verify(forged)
    assert caught.value.code == "cosignature_invalid"


def test_a_cosignature_of_another_text_or_another_witness_does_not_count() -> None:
    line = cosigned().signatures[0]
    with pytest.raises(IntegrityError) as caught:
        KEY.verify(Note(TEXT.replace("\n7\n", "\n8\n"), (line,)))
    assert caught.value.code == "cosignature_invalid"
    with pytest.raises(IntegrityError) as caught:
        WitnessKey.of(SigningKey.generate("witness.example/w2")).verify(cosigned())
    assert caught.value.code == "cosignature_missing"


def test_a_plain_signature_by_the_witnesss_key_is_no_cosignature() -> None:
    plain = sign_note(TEXT, [SIGNER])
    with pytest.raises(IntegrityError) as caught:
        KEY.verify(plain)
    assert caught.value.code == "cosignature_missing"


@pytest.mark.parametrize("time_s", [0, 2**63])
def test_a_cosignature_of_no_time_is_none_however_well_it_is_signed(time_s: int) -> None:
    """c2sp.org/tlog-witness: it MUST NOT be zero; c2sp.org/tlog-cosignature: nor exceed 2^63 - 1."""
    key, text = SigningKey.generate("witness.example/w1"), "desk.example/log\n0\nroot\n"
    signed = key.sign(f"cosignature/v1\ntime {time_s}\n{text}".encode())
    witness = WitnessKey.of(key)
    line = Signature(key.name, witness.key_id, time_s.to_bytes(8, "big") + signed)
    with pytest.raises(IntegrityError, match="cosignature_invalid"):
        witness.verify(Note(text, (line,)))
