"""Merkle trees of RFC 6962 section 2.1 (and RFC 9162 section 2.1): pure functions over hashes.

A node is addressed by (level, position): the complete subtree over the leaves
[position * 2^level, (position + 1) * 2^level). A `NodeReader` returns the hash of a complete
subtree; only complete subtrees are ever stored, because they never change.
"""

import hashlib
from collections.abc import Callable, Sequence

NodeReader = Callable[[int, int], bytes]
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Returns SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def frontier_nodes(size: int) -> list[tuple[int, int]]:
    """Returns the complete subtrees whose hashes make the root of a tree, from the largest on."""
    levels = range(size.bit_length() - 1, -1, -1)
    return [(level, (size >> level) - 1) for level in levels if size >> level & 1]


def subtree_number(level: int, position: int) -> int:
    """Returns how many complete subtrees of level 1 and above were complete before this one.

    So numbered, what an append completes stands at the end of what is stored.
    """
    last = ((position + 1) << level) - 1  # the leaf that completes it; n leaves have n - popcount(n) subtrees
    return last - last.bit_count() + level - 1


def extend(
    size: int, frontier: Sequence[bytes], leaf: bytes
) -> tuple[tuple[bytes, ...], list[tuple[int, int, bytes]]]:
    """Appends one leaf hash.

    Args:
        size: Leaves before the append.
        frontier: Hashes of `frontier_nodes(size)`, in that order.
        leaf: The new leaf's hash.

    Returns:
        The new frontier, and the subtrees of level 1 and above that the leaf completed.
    """
    stack = list(frontier)
    completed: list[tuple[int, int, bytes]] = []
    top, level = leaf, 0
    while size >> level & 1:
        top, level = node_hash(stack.pop(), top), level + 1
        completed.append((level, size >> level, top))
    return (*stack, top), completed


def root_of(frontier: Sequence[bytes]) -> bytes:
    """Returns the root of the tree with this frontier."""
    if not frontier:
        return EMPTY_ROOT
    root = frontier[-1]
    for left in reversed(frontier[:-1]):
        root = node_hash(left, root)
    return root


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """Returns the root over leaf hashes, from nothing else."""
    frontier: tuple[bytes, ...] = ()
    for size, leaf in enumerate(leaves):
        frontier, _ = extend(size, frontier, leaf)
    return root_of(frontier)


def range_hash(read: NodeReader, start: int, end: int) -> bytes:
    """Returns the hash of the subtree over leaves [start, end), where start begins a subtree."""
    parts: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(read(level, start >> level))
        start += 1 << level
    return root_of(parts)


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(read: NodeReader, index: int, size: int) -> list[bytes]:
    """Returns PATH(index, D[size]) of RFC 6962 section 2.1.1.

    Raises:
        ValueError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_hash(read, middle, end))
            end = middle
        else:
            path.append(range_hash(read, start, middle))
            start = middle
    return path[::-1]


def consistency_proof(read: NodeReader, old: int, new: int) -> list[bytes]:
    """Returns PROOF(old, D[new]) of RFC 6962 section 2.1.2.

    Raises:
        ValueError: the sizes do not satisfy 0 < old <= new.
    """
    if not 0 < old <= new:
        raise ValueError(f"there is no consistency proof from {old} to {new}")
    proof: list[bytes] = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(range_hash(read, middle, end))
            end = middle
        else:
            proof.append(range_hash(read, start, middle))
            start, whole = middle, False
    if not whole:
        proof.append(range_hash(read, start, end))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Checks an inclusion proof by the algorithm of RFC 9162 section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    first, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            result = node_hash(sibling, result)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and result == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Checks a consistency proof by the algorithm of RFC 9162 section 2.1.4.2."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_result = new_result = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old_result = node_hash(sibling, old_result)
            new_result = node_hash(sibling, new_result)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new_result = node_hash(new_result, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and old_result == old_root and new_result == new_root
