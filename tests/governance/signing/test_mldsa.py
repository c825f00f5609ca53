import base64
import struct
from pathlib import Path

import pytest

from neural_trader_governance.audit import merkle
from neural_trader_governance.audit.checkpoints import Checkpoint, open_checkpoint
from neural_trader_governance.errors import ConfigurationError, InputError, IntegrityError, StorageError
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.signing.mldsa import MldsaSigningKey, MldsaVerifyingKey, cosigned_message

NAME = "desk.example/log"
CHECKPOINT = Checkpoint(NAME, 7, merkle.leaf_hash(b"root"))


def test_the_signed_message_is_the_structure_of_the_specification() -> None:
    # c2sp.org/tlog-cosignature: label, sized name, timestamp, sized origin, start, end, hash.
    assert cosigned_message("a/b", CHECKPOINT.body().encode()) == (
        b"subtree/v1\n\x00" + b"\x03a/b" + bytes(8) + bytes([len(NAME)]) + NAME.encode()
        + struct.pack(">QQ", 0, 7) + CHECKPOINT.root
    )  # fmt: skip


def test_both_keys_sign_one_checkpoint_and_each_is_checked_by_itself() -> None:
    first, second = SigningKey.generate(NAME), MldsaSigningKey.generate(NAME)
    note = CHECKPOINT.sign([first, second])
    for key in (first.verifying_key, MldsaVerifyingKey.parse(second.vkey)):
        assert open_checkpoint(note, key) == CHECKPOINT
    line = base64.b64decode(note.splitlines()[-1].rpartition(" ")[2])
    assert (line[:4], line[4:12], len(line)) == (second.key_id, bytes(8), 4 + 8 + 2420)
    assert base64.b64decode(second.vkey.split("+", 2)[2])[:1] == b"\x06"
    with pytest.raises(IntegrityError, match="signature_missing"):
        open_checkpoint(note, MldsaSigningKey.generate(NAME).verifying_key)


def test_another_size_root_origin_or_time_does_not_verify() -> None:
    key = MldsaSigningKey.generate(NAME)
    text = CHECKPOINT.body().encode()
    signature = key.sign(text)
    verify = key.verifying_key.verify
    assert verify(text, signature)
    for other in (
        Checkpoint(NAME, 8, CHECKPOINT.root),
        Checkpoint(NAME, 7, bytes(32)),
        Checkpoint("other/log", 7, CHECKPOINT.root),
    ):
        assert not verify(other.body().encode(), signature)
    assert not verify(text, bytes(7) + b"\x01" + signature[8:])
    assert not verify(text, signature[:-1])
    assert not verify(b"no checkpoint", signature)
    for position in range(0, len(signature), 97):
        altered = bytearray(signature)
        altered[position] ^= 1
        assert not verify(text, bytes(altered))
    with pytest.raises(InputError, match="not_a_checkpoint"):
        key.sign(b"an order\n")


def test_a_key_file_is_private_survives_and_is_never_overwritten(tmp_path: Path) -> None:
    key = MldsaSigningKey.generate(NAME)
    path = tmp_path / "log-mldsa.key"
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert MldsaSigningKey.load(path).vkey == key.vkey
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StorageError, match="key_not_saved"):
        key.save(path)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="key_exposed"):
        MldsaSigningKey.load(path)
    path.chmod(0o600)
    path.write_text("PRIVATE+KEY+nonsense")
    with pytest.raises(ConfigurationError, match="invalid_key"):
        MldsaSigningKey.load(path)
    with pytest.raises(ConfigurationError, match="key_unreadable"):
        MldsaSigningKey.load(tmp_path / "none.key")
    assert "PRIVATE" not in repr(key)


def test_a_verifier_key_of_another_type_or_altered_is_refused() -> None:
    vkey = MldsaSigningKey.generate(NAME).vkey
    for wrong in (SigningKey.generate(NAME).vkey, vkey.replace("log+", "lot+"), vkey[:-4], "nonsense"):
        with pytest.raises(ConfigurationError, match="invalid_vkey"):
            MldsaVerifyingKey.parse(wrong)
