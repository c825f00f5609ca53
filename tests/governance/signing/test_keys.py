import base64
from pathlib import Path

import pytest

from neural_trader_governance.errors import ConfigurationError, StorageError
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey

# The key pair of Go's golang.org/x/mod/sumdb/note example documentation.
GO_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def test_a_key_of_gos_sumdb_note_reads_to_its_published_verifier_key(tmp_path: Path) -> None:
    path = tmp_path / "go.key"
    path.write_text(GO_SKEY)
    path.chmod(0o600)
    assert SigningKey.load(path).vkey == GO_VKEY


def test_a_saved_key_loads_and_signs_as_before_and_only_the_owner_can_read_it(tmp_path: Path) -> None:
    key = SigningKey.generate("desk.example/log")
    key.save(tmp_path / "log.key")
    assert (tmp_path / "log.key").stat().st_mode & 0o777 == 0o600
    again = SigningKey.load(tmp_path / "log.key")
    verifier = VerifyingKey.parse(key.vkey)
    assert verifier.verify(b"text", again.sign(b"text"))
    assert not verifier.verify(b"text!", again.sign(b"text"))
    assert again.vkey == verifier.vkey == key.vkey


def test_a_key_is_never_written_over_another(tmp_path: Path) -> None:
    SigningKey.generate("a").save(tmp_path / "log.key")
    with pytest.raises(StorageError, match="key_not_saved"):
        SigningKey.generate("b").save(tmp_path / "log.key")
    assert SigningKey.load(tmp_path / "log.key").name == "a"


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    SigningKey.generate("a").save(tmp_path / "log.key")
    (tmp_path / "log.key").chmod(0o640)
    with pytest.raises(ConfigurationError, match="key_exposed"):
        SigningKey.load(tmp_path / "log.key")


def test_a_damaged_private_key_is_refused_without_being_quoted(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    path.write_text(GO_SKEY[:-4])
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="invalid_key") as caught:
        SigningKey.load(path)
    assert "AYEK" not in str(caught.value)


def test_a_private_key_shows_only_its_public_half() -> None:
    key = SigningKey.generate("desk.example/log")
    assert repr(key) == f"SigningKey({key.vkey})"


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("Peter", "Pet r"),
        GO_VKEY[:-1] + "X",
        "PeterNeumann+c74f20a3+" + base64.b64encode(b"\x02" + bytes(32)).decode(),
        GO_VKEY + "====",
    ],
)
def test_a_malformed_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(ConfigurationError, match="invalid_vkey"):
        VerifyingKey.parse(vkey)


@pytest.mark.parametrize("name", ["", "two words", "plus+sign", "line\nbreak", "n" * 201])
def test_a_name_that_a_note_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="key name"):
        SigningKey.generate(name)
