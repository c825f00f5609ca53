"""Locked keys: only the passphrase opens them, nothing in the file can be swapped, and nothing leaks."""

import base64
import json
import logging
import os
import stat
import traceback
import unicodedata
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import ConfigurationError, InputError, StorageError
from neural_trader_governance.signing import locking
from neural_trader_governance.signing.at_rest import read_key_file
from neural_trader_governance.signing.keys import SigningKey, vkey_of

PASSPHRASE = "canary-passphrase-8d1f"
CHEAP = 2**10
LOCKED = locking.lock(b"secret", label="a+b+c", passphrase=PASSPHRASE, cost=CHEAP)


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate("desk.example/approver")


@pytest.fixture
def locked(key: SigningKey, tmp_path: Path) -> Path:
    path = tmp_path / "approver.key"
    key.save(path, PASSPHRASE, cost=CHEAP)
    return path


def seed_of(key: SigningKey, folder: Path) -> str:
    path = folder / "plain.key"
    key.save(path)
    return path.read_text().split("+", 4)[4].strip()


def test_a_locked_key_opens_with_its_passphrase_and_signs_as_before(key: SigningKey, locked: Path) -> None:
    opened = SigningKey.load(locked, PASSPHRASE)
    assert opened.vkey == key.vkey == vkey_of(locked)
    assert opened.sign(b"order") == key.sign(b"order")
    assert stat.S_IMODE(locked.stat().st_mode) == 0o600


def test_the_file_is_what_its_documentation_says(key: SigningKey, locked: Path, tmp_path: Path) -> None:
    """Opened here without our code, from the fields that the file itself names."""
    file = json.loads(locked.read_text())
    stretched = Scrypt(salt=base64.b64decode(file["salt"]), length=32, n=file["cost"], r=8, p=1).derive(
        PASSPHRASE.encode()
    )
    header = {name: value for name, value in file.items() if name != "ciphertext"}
    secret = ChaCha20Poly1305(stretched).decrypt(
        base64.b64decode(file["nonce"]),
        base64.b64decode(file["ciphertext"]),
        json.dumps(header, sort_keys=True, separators=(",", ":")).encode(),
    )
    assert secret.decode().strip().endswith(seed_of(key, tmp_path))


def test_the_cost_that_is_written_by_default_is_owasps(key: SigningKey, tmp_path: Path) -> None:
    key.save(tmp_path / "own.key", PASSPHRASE)
    assert json.loads((tmp_path / "own.key").read_text())["cost"] == 2**17


def test_without_a_passphrase_or_with_another_it_stays_shut(locked: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SigningKey.load(locked)
    assert caught.value.code == "key_locked"
    for wrong in ("", PASSPHRASE + " ", PASSPHRASE.upper()):
        with pytest.raises(ConfigurationError) as caught:
            SigningKey.load(locked, wrong)
        assert caught.value.code == "wrong_passphrase"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_byte_of_a_locked_key_can_be_changed(data: st.DataObject) -> None:
    text = LOCKED
    place = data.draw(st.integers(min_value=0, max_value=len(text) - 2))
    other = data.draw(st.sampled_from([c for c in "Aa0/+,{ :9" if c != text[place]]))
    changed = text[:place] + other + text[place + 1 :]
    same = json.loads(text)
    try:
        if json.loads(changed) == same:
            return
    except json.JSONDecodeError:
        pass
    with pytest.raises(ConfigurationError) as caught:
        locking.unlock(locking.read_locked(changed), PASSPHRASE)
    assert caught.value.code in {"wrong_passphrase", "invalid_key"}


def test_one_keys_header_does_not_open_another_keys_secret() -> None:
    mine = locking.read_locked(locking.lock(b"mine", label="a", passphrase=PASSPHRASE, cost=CHEAP))
    relabelled = mine.model_copy(update={"label": "b"})
    with pytest.raises(ConfigurationError):
        locking.unlock(relabelled, PASSPHRASE)


def test_a_file_cannot_ask_for_all_of_the_memory() -> None:
    text = locking.lock(b"secret", label="a", passphrase=PASSPHRASE, cost=CHEAP)
    with pytest.raises(ConfigurationError) as caught:
        locking.read_locked(text.replace(f'"cost":{CHEAP}', f'"cost":{2**30}'))
    assert caught.value.code == "invalid_key"


def test_a_passphrase_is_the_same_however_its_accents_are_typed() -> None:
    text = locking.lock(
        b"secret", label="a", passphrase=unicodedata.normalize("NFC", "caf\u00e9-caf\u00e9"), cost=CHEAP
    )
    typed = unicodedata.normalize("NFD", "caf\u00e9-caf\u00e9")
    assert locking.unlock(locking.read_locked(text), typed) == b"secret"


def test_a_short_passphrase_is_refused_before_anything_is_written(key: SigningKey, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        key.save(tmp_path / "own.key", "1234567")
    assert caught.value.code == "passphrase_too_short"
    assert list(tmp_path.iterdir()) == []


def test_locking_and_unlocking_replace_the_file_at_once_and_only_its_own(
    key: SigningKey, tmp_path: Path
) -> None:
    path = tmp_path / "own.key"
    key.save(path)
    key.replace(path, PASSPHRASE, cost=CHEAP)
    assert locking.is_locked(read_key_file(path))
    key.replace(path)
    assert SigningKey.load(path).vkey == key.vkey
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["own.key"]
    with pytest.raises(ConfigurationError) as caught:
        SigningKey.generate("desk.example/other").replace(path, PASSPHRASE, cost=CHEAP)
    assert caught.value.code == "another_key"
    assert SigningKey.load(path).vkey == key.vkey


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_key_that_cannot_be_written_anew_stays_as_it_was(
    key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "own.key"
    key.save(path)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else Path, call, fail)
        with pytest.raises(StorageError, match="Input/output error"):
            key.replace(path, PASSPHRASE, cost=CHEAP)
    assert SigningKey.load(path).vkey == key.vkey
    assert [entry.name for entry in tmp_path.iterdir()] == ["own.key"], "no half key is left behind"


def test_a_key_file_stands_there_whole_or_not_at_all(
    key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError):
            key.save(tmp_path / "own.key")
    assert list(tmp_path.iterdir()) == []
    key.save(tmp_path / "own.key")


def test_neither_passphrase_nor_key_is_in_any_error_repr_or_log(
    key: SigningKey, locked: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seed = seed_of(key, tmp_path)
    damaged = tmp_path / "damaged.key"
    damaged.write_text((tmp_path / "plain.key").read_text().replace("+", " ", 1))
    damaged.chmod(0o600)
    said = [repr(key), str(key), repr(SigningKey.load(locked, PASSPHRASE)), repr(vars(key))]
    for attempt in (
        lambda: SigningKey.load(locked, PASSPHRASE + "x"),
        lambda: SigningKey.load(damaged),
        lambda: key.save(locked, PASSPHRASE, cost=CHEAP),
        lambda: key.save(tmp_path / "short.key", PASSPHRASE[:7]),
        lambda: SigningKey.load(tmp_path / "plain.key", PASSPHRASE).replace(locked.with_name("no.key")),
    ):
        try:
            attempt()
        except Exception as error:
            said += [str(error), repr(error), *traceback.format_exception(error)]
        else:
            pytest.fail("the attempt should have failed")
    whole = "\n".join([*said, caplog.text])
    for secret in (seed, seed[:20], PASSPHRASE, PASSPHRASE[:7]):
        assert secret not in whole
