"""Bundles: every byte is signed, and nothing but the pinned issuer's signature counts."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.policy.bundles import BundleFolder, PolicyBundle
from neural_trader_governance.policy.engine import POLICY_FILE, SCHEMA_FILE, SHIPPED_POLICY, policy_digest
from neural_trader_governance.signing.keys import SigningKey

POLICY = (SHIPPED_POLICY / POLICY_FILE).read_text(encoding="utf-8")
SCHEMA = (SHIPPED_POLICY / SCHEMA_FILE).read_text(encoding="utf-8")
CREATED = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def issuer() -> SigningKey:
    return SigningKey.generate("desk.example/issuer")


@pytest.fixture
def bundle(issuer: SigningKey) -> PolicyBundle:
    return PolicyBundle.sign(issuer, policy=POLICY, schema=SCHEMA, created=CREATED, comment="the first")


@pytest.fixture
def folder(tmp_path: Path) -> BundleFolder:
    return BundleFolder(tmp_path / "policy" / "bundles")


def test_a_kept_bundle_is_read_back_as_it_was_signed(
    bundle: PolicyBundle, folder: BundleFolder, issuer: SigningKey
) -> None:
    assert folder.keep(bundle, issuer.verifying_key) == bundle
    assert folder.read(bundle.digest) == bundle
    bundle.require(issuer.verifying_key)
    assert bundle.digest == policy_digest(POLICY.encode(), SCHEMA.encode())
    assert [path.name for path in folder.path.iterdir()] == [f"{bundle.digest}.json"]


def test_a_flipped_bit_anywhere_is_refused(
    bundle: PolicyBundle, folder: BundleFolder, issuer: SigningKey
) -> None:
    folder.keep(bundle, issuer.verifying_key)
    path = folder.path_of(bundle.digest)
    whole = path.read_bytes()
    for place in range(0, len(whole) - 1, 23):  # the last byte is the line's end
        for bit in (0, 6):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(IntegrityError, match="policy_bundle_refused"):
                folder.read(bundle.digest).require(issuer.verifying_key)


@pytest.mark.parametrize(
    "change",
    [
        {"comment": "another"},
        {"policy": POLICY + "\n"},
        {"cedar_schema": SCHEMA + "\n"},
        {"created": CREATED.replace(year=2027)},
        {"digest": "0" * 64},
        {"nonce": "0" * 32},
        {"issuer": "somebody"},
    ],
)
def test_no_field_is_outside_the_signature(
    bundle: PolicyBundle, issuer: SigningKey, change: dict[str, object]
) -> None:
    with pytest.raises(IntegrityError):
        bundle.model_copy(update=change).require(issuer.verifying_key)


def test_another_key_of_the_same_name_vouches_for_nothing(bundle: PolicyBundle, issuer: SigningKey) -> None:
    stranger = SigningKey.generate(issuer.name)
    with pytest.raises(IntegrityError, match="not signed by this desk's issuer"):
        bundle.require(stranger.verifying_key)
    unsigned = bundle.model_copy(update={"signature": "0" * 128})
    with pytest.raises(IntegrityError):
        unsigned.require(issuer.verifying_key)


def test_a_signed_lie_about_the_digest_is_refused(bundle: PolicyBundle, issuer: SigningKey) -> None:
    lie = bundle.model_copy(update={"digest": "a" * 64}).signed_by(issuer)
    with pytest.raises(IntegrityError, match="its digest is not that of its texts"):
        lie.require(issuer.verifying_key)


def test_a_bundle_under_another_digests_name_is_refused(
    bundle: PolicyBundle, folder: BundleFolder, issuer: SigningKey
) -> None:
    other = PolicyBundle.sign(issuer, policy=POLICY + "\n", schema=SCHEMA, created=CREATED)
    for one in (bundle, other):
        folder.keep(one, issuer.verifying_key)
    folder.path_of(bundle.digest).write_bytes(folder.path_of(other.digest).read_bytes())
    with pytest.raises(IntegrityError, match="holds another policy than its name says"):
        folder.read(bundle.digest)


@pytest.mark.parametrize("digest", ["", "../../keys/issuer", "A" * 64, "0" * 63, "0" * 65])
def test_what_is_no_digest_names_no_file(folder: BundleFolder, digest: str) -> None:
    with pytest.raises(IntegrityError, match="no policy digest"):
        folder.path_of(digest)


def test_the_first_good_bundle_of_a_digest_stays_and_a_damaged_one_is_replaced(
    bundle: PolicyBundle, folder: BundleFolder, issuer: SigningKey
) -> None:
    folder.keep(bundle, issuer.verifying_key)
    again = PolicyBundle.sign(issuer, policy=POLICY, schema=SCHEMA, created=CREATED, comment="again")
    assert folder.keep(again, issuer.verifying_key) == bundle
    folder.path_of(bundle.digest).write_text("{}")
    assert folder.keep(again, issuer.verifying_key) == again
    assert folder.read(bundle.digest) == again


def test_a_strangers_bundle_is_not_kept(bundle: PolicyBundle, folder: BundleFolder) -> None:
    with pytest.raises(IntegrityError):
        folder.keep(bundle, SigningKey.generate("desk.example/issuer").verifying_key)
    assert not folder.path.exists()


def test_a_digest_is_found_by_its_beginning_only_where_one_begins_so(
    bundle: PolicyBundle, folder: BundleFolder, issuer: SigningKey
) -> None:
    assert folder.find(bundle.digest) is None
    folder.keep(bundle, issuer.verifying_key)
    assert folder.find(bundle.digest[:8]) == bundle.digest
    assert folder.find(bundle.digest[:7]) is None
    twin = folder.path / f"{bundle.digest[:8]}{'0' * 56}.json"
    twin.write_text("")
    assert folder.find(bundle.digest[:8]) is None
