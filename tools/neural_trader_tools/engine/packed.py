"""Machine code, packed: what one guest compiled, another runs without compiling the same file again.

A check runs a strategy some thirty times, each in a process of its own, and compiling takes far longer than
running. So one more guest compiles it, which is told no bar: what it hands over tells no run of another.
"""

import base64
import binascii
import contextlib
import pickle
import sys
import types
import zlib
from typing import Any, cast

from numba.core import compiler, registry, serialize

MODULE = "strategy"
"""`__name__` of a user's file, and of the code that is made around it."""
_MODULES = (MODULE, "<dynamic>")
"""Numba looks for modules of these names when it unpacks; the second is its own name for made-up code."""


def pack(dispatcher: Any) -> str:
    """Returns the machine code of a function that was called with one kind of arguments, as ASCII text."""
    [result] = dispatcher.overloads.values()
    return base64.b64encode(zlib.compress(cast("Any", serialize).dumps(result._reduce()), 1)).decode()


def adopt(dispatcher: Any, packed: str) -> None:
    """Gives a function its machine code; one that does not fit is left out, and compiled when it is called.

    Only inside a sandbox: unpacking trusts the text, which a stranger's process made.
    """
    sys.modules.update({name: types.ModuleType(name) for name in _MODULES})
    try:
        with contextlib.suppress(pickle.UnpicklingError, binascii.Error, zlib.error, EOFError):
            reduced = pickle.loads(zlib.decompress(base64.b64decode(packed)))  # noqa: S301  # see above
            target = cast("Any", registry).cpu_target.target_context
            dispatcher.add_overload(cast("Any", compiler).CompileResult._rebuild(target, *reduced))
    finally:
        for name in _MODULES:
            del sys.modules[name]
