"""Bundles: how tlog-tiles lays numbered things out in files, 256 to a file (https://c2sp.org/tlog-tiles).

A tile holds 256 hashes. An entry bundle holds 256 entries, each behind its length as a big-endian
uint16; earlier checkpoints are kept in the same form. The last file may hold fewer: a partial one.
"""

from collections.abc import Iterable, Iterator

WIDTH = 256
ITEM_BYTES_MAX = 65_535


def tile_path(kind: str, index: int, width: int = WIDTH) -> str:
    """Returns the path of a tile or an entry bundle, such as `tile/0/x001/234.p/12`.

    Args:
        kind: A tile level as a number, or `entries`.
        index: Position of the tile in its level.
        width: Hashes in the tile; below 256 it is a partial one.
    """
    return f"tile/{kind}/{_place(index, width)}"


def checkpoints_path(index: int, width: int = WIDTH) -> str:
    """Returns the path of a bundle of checkpoints, such as `checkpoints/000.p/12`."""
    return f"checkpoints/{_place(index, width)}"


def _place(index: int, width: int) -> str:
    parts = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        parts.insert(0, f"x{index % 1000:03d}")
    return "/".join(parts) + ("" if width == WIDTH else f".p/{width}")


def spans(size: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yields (index, width) of the files that cover `size` items, from the one that holds `start`."""
    for index in range(start // WIDTH, -(-size // WIDTH)):
        yield index, min(WIDTH, size - index * WIDTH)


def join_bundle(items: Iterable[bytes]) -> bytes:
    """Returns the bundle of these items.

    Raises:
        OverflowError: an item is longer than 65,535 bytes.
    """
    return b"".join(len(item).to_bytes(2, "big") + item for item in items)


def split_bundle(data: bytes, count: int) -> tuple[list[bytes], str]:
    """Returns the items of a bundle as far as they are whole, and what is wrong with it (empty: nothing)."""
    items: list[bytes] = []
    offset = 0
    while len(items) < count:
        end = offset + 2 + int.from_bytes(data[offset : offset + 2], "big")
        if offset + 2 > len(data) or end > len(data):
            return items, "ends within an item"
        items.append(data[offset + 2 : end])
        offset = end
    return items, "" if offset == len(data) else "holds bytes beyond its items"
