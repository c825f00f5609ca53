import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.audit import merkle

# The leaves and roots that the Certificate Transparency implementations of RFC 6962 share.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (index, size, path) and (old, new, proof) from the same source.
INCLUSION: list[tuple[int, int, list[str]]] = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY: list[tuple[int, int, list[str]]] = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


def _hashes(count: int) -> list[bytes]:
    return [merkle.leaf_hash(str(number).encode()) for number in range(count)]


def _reader(leaves: list[bytes]) -> merkle.NodeReader:
    return lambda level, position: merkle.tree_hash(leaves[position << level : (position + 1) << level])


def _by_definition(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 section 2.1 writes it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + _by_definition(leaves[:split]) + _by_definition(leaves[split:])).digest()


def test_the_published_roots_are_reached() -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES]
    for size, root in enumerate(ROOTS, 1):
        assert merkle.tree_hash(hashes[:size]).hex() == root
    assert merkle.tree_hash([]) == merkle.EMPTY_ROOT == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_the_published_inclusion_proofs_are_made_and_verify(index: int, size: int, path: list[str]) -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES[:size]]
    proof = merkle.inclusion_proof(_reader(hashes), index, size)
    assert [step.hex() for step in proof] == path
    assert merkle.verify_inclusion(hashes[index], index, size, proof, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
def test_the_published_consistency_proofs_are_made_and_verify(old: int, new: int, path: list[str]) -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES[:new]]
    proof = merkle.consistency_proof(_reader(hashes), old, new)
    assert [step.hex() for step in proof] == path
    assert merkle.verify_consistency(
        old, new, bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[new - 1]), proof
    )


def _path_by_definition(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH as RFC 6962 section 2.1.1 writes it."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*_path_by_definition(index, leaves[:split]), _by_definition(leaves[split:])]
    return [*_path_by_definition(index - split, leaves[split:]), _by_definition(leaves[:split])]


def _proof_by_definition(old: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF as RFC 6962 section 2.1.2 writes it."""
    if old == len(leaves):
        return [] if whole else [_by_definition(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old <= split:
        return [*_proof_by_definition(old, leaves[:split], whole), _by_definition(leaves[split:])]
    return [*_proof_by_definition(old - split, leaves[split:], False), _by_definition(leaves[:split])]


def test_the_example_tree_of_the_rfc_has_the_paths_and_proofs_that_it_prints() -> None:
    # RFC 6962 section 2.1.3: seven leaves; its audit paths of d0, d3, d4, d6 and proofs from 3, 4, 6.
    a, b, c, d, e, f, j = leaves = _hashes(7)
    g, h, i = merkle.node_hash(a, b), merkle.node_hash(c, d), merkle.node_hash(e, f)
    k, big_l = merkle.node_hash(g, h), merkle.node_hash(i, j)
    read = _reader(leaves)
    assert merkle.tree_hash(leaves) == merkle.node_hash(k, big_l)
    assert merkle.inclusion_proof(read, 0, 7) == [b, h, big_l]
    assert merkle.inclusion_proof(read, 3, 7) == [c, g, big_l]
    assert merkle.inclusion_proof(read, 4, 7) == [f, j, k]
    assert merkle.inclusion_proof(read, 6, 7) == [i, k]
    assert merkle.consistency_proof(read, 3, 7) == [c, d, g, big_l]
    assert merkle.consistency_proof(read, 4, 7) == [big_l]
    assert merkle.consistency_proof(read, 6, 7) == [i, j, k]


def test_every_proof_over_the_published_leaves_is_the_one_that_the_rfc_defines() -> None:
    leaves = [merkle.leaf_hash(leaf) for leaf in LEAVES]
    for size in range(1, 9):
        tree = leaves[:size]
        read = _reader(tree)
        for index in range(size):
            assert merkle.inclusion_proof(read, index, size) == _path_by_definition(index, tree)
            assert merkle.consistency_proof(read, index + 1, size) == _proof_by_definition(index + 1, tree)


def test_every_proof_of_every_small_tree_verifies_and_no_other_place_does() -> None:
    for size in range(1, 34):
        leaves = _hashes(size)
        read, root = _reader(leaves), _by_definition(leaves)
        assert merkle.tree_hash(leaves) == root
        for index in range(size):
            proof = merkle.inclusion_proof(read, index, size)
            assert merkle.verify_inclusion(leaves[index], index, size, proof, root)
            assert (
                not merkle.verify_inclusion(leaves[index], (index + 1) % size, size, proof, root) or size == 1
            )
            assert not merkle.verify_inclusion(leaves[index], index, size, [*proof, root], root)
        for old in range(1, size + 1):
            proof = merkle.consistency_proof(read, old, size)
            assert merkle.verify_consistency(old, size, merkle.tree_hash(leaves[:old]), root, proof)
            assert not merkle.verify_consistency(old, size, bytes(32), root, proof)


@given(st.integers(1, 80), st.data())
def test_a_flipped_bit_in_a_proof_never_verifies(size: int, data: st.DataObject) -> None:
    leaves = _hashes(size)
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    read, root = _reader(leaves), merkle.tree_hash(leaves)
    inclusion = merkle.inclusion_proof(read, index, size)
    consistency = merkle.consistency_proof(read, old, size)

    def included(proof: list[bytes]) -> bool:
        return merkle.verify_inclusion(leaves[index], index, size, proof, root)

    def consistent(proof: list[bytes]) -> bool:
        return merkle.verify_consistency(old, size, merkle.tree_hash(leaves[:old]), root, proof)

    for proof, check in ((inclusion, included), (consistency, consistent)):
        assert check(proof)
        for place in range(len(proof)):
            bit = data.draw(st.integers(0, 255))
            step = bytearray(proof[place])
            step[bit // 8] ^= 1 << bit % 8
            assert not check([*proof[:place], bytes(step), *proof[place + 1 :]])
            assert not check(proof[:place] + proof[place + 1 :])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_a_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion_proof(_reader(_hashes(3)), index, size)


def test_a_consistency_proof_that_ends_before_the_root_of_the_claimed_size_is_refused() -> None:
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(5)]
    old, new = merkle.tree_hash(leaves[:4]), merkle.tree_hash(leaves)
    assert merkle.verify_consistency(4, 5, old, new, [leaves[4]])
    assert not merkle.verify_consistency(4, 9, old, new, [leaves[4]])


def test_subtrees_are_numbered_in_the_order_in_which_leaves_complete_them() -> None:
    frontier: tuple[bytes, ...] = ()
    numbers: list[int] = []
    for size in range(1_000):
        frontier, completed = merkle.extend(size, frontier, bytes(32))
        numbers += [merkle.subtree_number(level, position) for level, position, _ in completed]
    assert numbers == list(range(len(numbers)))
