"""How kernels are compiled and called: machine code, cached on disk, without the GIL, on checked input.

Runs inside the sandbox too: standard library, numpy, numba and the engine only.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine.compiled import freshen

Floats = NDArray[np.float64]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def jit(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compiles on the first call, or loads what an earlier process compiled; releases the GIL."""
    # numba ships no stubs; a compiled function is called like the plain one.
    compiler: Any = cast(Any, numba).njit(cache=True, nogil=True, error_model="numpy")
    machine = compiler(function)
    freshen(machine, function)
    return cast("Callable[Parameters, Result]", machine)


def kernel(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compiles a kernel and guards it: machine code does not check bounds, so the caller's arrays are.

    Arrays are converted to contiguous float64 and must be of one length; integers (windows) must be
    positive. One array type means one compiled version of each kernel.

    Raises (the decorated function):
        ValueError: `unequal_lengths` or `invalid_window`.
    """
    machine: Callable[..., Any] = jit(cast("Callable[..., Any]", function))

    @functools.wraps(function)
    def call(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        ready = tuple(_ready(argument) for argument in (*arguments, *named.values()))
        if len({argument.size for argument in ready if isinstance(argument, np.ndarray)}) > 1:
            raise ValueError(
                f"unequal_lengths: {function.__name__} got arrays of different lengths;"
                " pass columns of the same bars"
            )
        return cast("Result", machine(*ready))

    call.machine = machine  # type: ignore[attr-defined] (for tests and for callers inside numba)
    return call


def _ready(argument: object) -> Floats | int | float:
    if isinstance(argument, bool | np.bool_):
        raise ValueError("invalid_window: a truth value is no number; give an integer window")
    if isinstance(argument, int | np.integer):
        if argument < 1:
            raise ValueError(f"invalid_window: window {argument} is below 1; give a positive number of bars")
        return int(cast("int", argument))
    if isinstance(argument, float | np.floating):
        return float(cast("float", argument))
    array = np.ascontiguousarray(np.asarray(argument, dtype=np.float64)).reshape(-1).view()
    array.flags.writeable = False
    return array
