"""Numba behind one typed door."""

import functools
import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
_BLAS = "scipy.linalg.cython_blas"


def _spare_scipy() -> None:
    """Loads numba's array functions while scipy's linear algebra seems absent.

    They import it to learn whether it is there: a quarter of a second and 17 MB in every process that runs
    one kernel, for matrix products that none of them makes. Code that does make one still finds it then.
    """
    if _BLAS in sys.modules:
        return
    sys.modules[_BLAS] = cast("Any", None)
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[_BLAS]


_spare_scipy()


def compiled(function: Function, *, nogil: bool = True) -> Function:
    """Compiles a function to machine code at its first call, cached on disk where that is possible.

    Args:
        function: What to compile.
        nogil: Whether it lets other threads run. To say so costs more than a very short function takes.

    No fastmath: results must be the same on every machine of one architecture. Without a writable cache
    folder (inside a sandbox) numba refuses to cache; compiling again each time is then the price.
    """
    njit: Any = cast(Any, numba).njit
    try:
        dispatcher = njit(cache=True, nogil=nogil)(function)
    except RuntimeError:  # "no locator available for file": nowhere to write the cache
        return cast(Function, njit(nogil=nogil)(function))
    freshen(dispatcher, function)
    return cast(Function, dispatcher)


def compiled_bare(function: Function) -> Function:
    """Compiles a function that makes no array and divides by no zero: a call costs a few nanoseconds.

    Elsewhere numba counts references of every array at every call, five times as long as such a call takes.
    Dividing by zero gives infinity or NaN instead of an exception.
    """
    njit: Any = cast("Any", numba).njit
    options = {"nogil": True, "_nrt": False, "error_model": "numpy"}
    try:
        dispatcher = njit(cache=True, **options)(function)
    except RuntimeError:
        return cast("Function", njit(**options)(function))
    freshen(dispatcher, function)
    return cast("Function", dispatcher)


def compiled_within(function: Function) -> Function:
    """Compiles as `compiled_bare` does, into every compiled function that calls it.

    A call hands over seven numbers for each array: as much work as a short function does.
    """
    njit: Any = cast("Any", numba).njit
    options = {"nogil": True, "_nrt": False, "error_model": "numpy", "forceinline": True}
    try:
        dispatcher = njit(cache=True, **options)(function)
    except RuntimeError:  # see `compiled`
        return cast("Function", njit(**options)(function))
    freshen(dispatcher, function)
    return cast("Function", dispatcher)


def vectorised(function: Function) -> Function:
    """Compiles as `compiled` does, but a division by zero gives infinity or NaN, as in numpy.

    Without that check a loop of divisions can become vector instructions.
    """
    njit: Any = cast(Any, numba).njit
    try:
        dispatcher = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # see `compiled`
        return cast(Function, njit(nogil=True, error_model="numpy")(function))
    freshen(dispatcher, function)
    return cast(Function, dispatcher)


def freshen(dispatcher: Any, function: Callable[..., Any]) -> None:
    """Makes a change to any Python file of the function's folder, or of the engine, invalidate its cache.

    Numba by itself looks at the function's own file only, and goes on using what it inlined from others.
    It offers no public way; tests/tools/engine/test_compiled.py says whether this one still works.
    """
    index = dispatcher._cache._cache_file
    index._source_stamp = (index._source_stamp, _sources(Path(function.__code__.co_filename).parent))


@functools.cache
def _sources(folder: Path) -> str:
    """Returns the SHA-256 of the Python files of a folder and of the engine's."""
    hasher = hashlib.sha256()
    for place in sorted({folder, Path(__file__).parent}):
        for path in sorted(place.glob("*.py")):
            hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()
