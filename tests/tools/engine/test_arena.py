"""The arena: memory comes back only when nobody can see it any more."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from neural_trader_tools.engine.arena import ALIGNMENT, BLOCK_BYTES_MIN, Arena

SIZE = BLOCK_BYTES_MIN // 8


def test_memory_is_used_again_once_dropped() -> None:
    arena = Arena()
    first = arena.floats(SIZE)
    address = first.ctypes.data
    del first
    assert arena.idle_bytes == BLOCK_BYTES_MIN
    assert arena.floats(2, SIZE // 2).ctypes.data == address
    assert arena.idle_bytes == BLOCK_BYTES_MIN  # that array is gone again


def test_arrays_begin_where_a_line_of_the_cache_does() -> None:
    arena = Arena()
    for _ in range(2):
        held = [arena.floats(SIZE + extra) for extra in (0, 1, 12_345, 9 * SIZE)]
        assert all(array.ctypes.data % ALIGNMENT == 0 for array in held)
        for number in range(4):
            held[number].fill(number)  # to its end
        assert all((held[number] == number).all() for number in range(4))
        held.clear()
    assert arena.idle_bytes > 0


def test_a_slice_keeps_the_memory_from_being_lent_again() -> None:
    arena = Arena()
    whole = arena.floats(4, SIZE)
    whole[:] = 1.0
    part = whole[2][10:20][::2]
    del whole
    gc.collect()
    other = arena.floats(4, SIZE)
    other[:] = 2.0
    assert (part == 1.0).all()
    del part
    assert arena.idle_bytes == 4 * BLOCK_BYTES_MIN


def test_the_pool_is_bounded_and_small_arrays_are_not_its_business() -> None:
    arena = Arena(bytes_max=BLOCK_BYTES_MIN)
    held = [arena.floats(SIZE) for _ in range(3)]
    held.clear()
    assert arena.idle_bytes == BLOCK_BYTES_MIN
    del held
    arena.floats(5)
    assert arena.floats(0).size == 0
    assert arena.idle_bytes == BLOCK_BYTES_MIN


def test_threads_never_hold_the_same_memory() -> None:
    arena = Arena()

    def fill(value: int) -> bool:
        same = True
        for _ in range(50):
            mine = arena.floats(SIZE)
            mine.fill(value)
            same &= bool((mine == value).all())
        return same

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(fill, range(8)))
    assert np.shape(arena.floats(3, 4)) == (3, 4)
